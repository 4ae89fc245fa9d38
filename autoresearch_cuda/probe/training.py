"""Jobs `train`, `evaluate`, `check`, `throughput`: see the shared modules `training`, `checking`, `throughput`."""

from functools import partial

import torch

from autoresearch_cuda import engine
from autoresearch_cuda.checks.wider import widened
from autoresearch_cuda.probe import environment
from autoresearch_trainer.probe import checking
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


train = partial(shared.train, engine, shared.Probe(environment.snapshot, move_one_ulp, widened))
check = partial(checking.check, engine)
evaluate = partial(shared.evaluate, engine)
throughput = partial(measure, engine, environment.snapshot)
