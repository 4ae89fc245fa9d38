"""Jobs `train`, `evaluate`, `check`, `throughput`: see the shared modules `training`, `checking`, `throughput`."""

from functools import partial

import mlx.core as mx
import numpy as np

from autoresearch_mlx import engine
from autoresearch_mlx.arrays import to_numpy
from autoresearch_mlx.model import GPT
from autoresearch_mlx.probe import environment
from autoresearch_trainer.probe import checking
from autoresearch_trainer.probe import training as shared
from autoresearch_trainer.probe.throughput import measure


def move_one_ulp(model: GPT, seed: int) -> None:
    """Move every float32 parameter element to a neighbouring float32, up or down at random.

    The smallest disturbance there is: what it grows into, any other rounding may grow into. The tables held in bfloat16
    stay: a unit in their last place is 65,536 times as large, and on some seeds the first steps amplify it tenfold.
    """
    rng = np.random.default_rng(seed)
    for name, parameter in model.params.items():
        if parameter.dtype == mx.float32:
            value = to_numpy(parameter)
            towards = np.where(rng.integers(0, 2, value.shape), np.float32(np.inf), np.float32(-np.inf))
            model.params[name] = mx.array(np.nextafter(value, towards))
    mx.eval(model.params)


def is_half(value: object) -> bool:
    return isinstance(value, mx.array) and value.dtype in (mx.bfloat16, mx.float16)


in_float32 = partial(shared.in_float32, is_half=is_half, cast=mx.array.astype, float32=mx.float32)
train = partial(shared.train, engine, shared.Probe(environment.snapshot, move_one_ulp, in_float32))
evaluate = partial(shared.evaluate, engine)
check = partial(checking.check, engine)
throughput = partial(measure, engine, environment.snapshot)
