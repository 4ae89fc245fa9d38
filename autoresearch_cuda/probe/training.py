"""Jobs `train`, `evaluate` and `throughput`: see the shared modules `training` and `throughput`."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from autoresearch_cuda import engine
from autoresearch_cuda.probe import environment
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe import training as shared
from autoresearch_trainer.probe.throughput import measure


@torch.no_grad()
def move_one_ulp(model: torch.nn.Module, seed: int) -> None:
    """Move every float32 parameter element to a neighbouring float32, up or down at random.

    The smallest disturbance there is: what it grows into, any other rounding may grow into. The tables held in bfloat16
    stay: a unit in their last place is 65,536 times as large, and on some seeds the first steps amplify it tenfold.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dtype == torch.float32:
            up = torch.randint(0, 2, parameter.shape, generator=generator, dtype=torch.bool).to(parameter.device)
            parameter.copy_(torch.nextafter(parameter, torch.where(up, torch.inf, -torch.inf)))


def in_float32(kernel: Kernel) -> Kernel:
    """The kernel on float32 copies of its half-precision arguments; its results in the dtypes that it gives else."""

    def half(value: object) -> bool:
        return isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)

    def wide(*arguments: Any) -> Any:
        if not any(map(half, arguments)):
            return kernel(*arguments)
        with torch.no_grad():
            usual = kernel(*arguments)
        found = kernel(*[value.float() if half(value) else value for value in arguments])
        if isinstance(found, Tensor):
            return found.to(usual.dtype)
        return tuple(one.to(other.dtype) for one, other in zip(found, usual, strict=True))

    return wide


train = partial(shared.train, engine, shared.Probe(environment.snapshot, move_one_ulp, in_float32))
evaluate = partial(shared.evaluate, engine)
throughput = partial(measure, engine, environment.snapshot)
