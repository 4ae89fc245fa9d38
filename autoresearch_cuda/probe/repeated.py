"""One small call made many times: does it always give the same bits, at a later hour too, and does memory grow?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from autoresearch_cuda.probe.context import tensors_of
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.clock import MovableClock
from autoresearch_trainer.probe.memory import PARTS, Growth, allocated, mapped, only_new_garbage

_grad, _equal, _monotonic = torch.autograd.grad, torch.equal, time.monotonic
REPEAT_SECONDS = 0.4
# By so much the clocks are moved on during the last of the calls: a day and some.
LATER = 100_000


@dataclass(frozen=True)
class Repeated:
    """calls: made; strayed: of them gave other bits than the first; late: of those the ones at a later hour. leaked:
    bytes by which the memory in use grew with each call."""

    calls: int
    strayed: int
    late: int
    leaked: float


def repeat(
    function: Kernel, values: Mapping[str, Any], refill: Callable[[], None], count: int, clock: MovableClock
) -> Repeated:
    """At most `count` calls in at most REPEAT_SECONDS, forward and backward. refill: puts the contents back before a
    call, which may have updated them."""
    leaves = [value for value in values.values() if isinstance(value, torch.Tensor) and value.requires_grad]

    def results() -> list[torch.Tensor]:
        refill()
        outputs = tensors_of(function(*values.values()))
        reached = [each for each in outputs if each.requires_grad]
        ones = [torch.ones_like(each) for each in reached]
        grads = _grad(reached, leaves, ones, allow_unused=True) if reached else ()
        return [each.detach().clone() for each in (*outputs, *grads) if each is not None]

    first = results()
    made = strayed = late = 0

    def once() -> bool:
        found = results()
        return len(found) == len(first) and all(map(_same_bits, found, first))

    growths = (Growth(_used), Growth(mapped))
    with only_new_garbage():
        began = _monotonic()
        _read(growths, made)
        for part in range(1, PARTS + 1):
            end = began + REPEAT_SECONDS * part / PARTS
            while made < count * part / PARTS and _monotonic() < end:
                strayed += not once()
                made += 1
            _read(growths, made)
    with clock.ahead(LATER):
        for _ in range(min(made, 2)):
            late += not once()
    return Repeated(made, strayed + late, late, max(growth.per_call() for growth in growths))


def _read(growths: Iterable[Growth], made: int) -> None:
    for growth in growths:
        growth.read(made)


def _used() -> int:
    """Bytes in use, on a GPU as well."""
    return allocated() + (torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """NaN equals NaN here."""
    bits = [each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)]
    return one.shape == other.shape and _equal(*bits)
