"""A sampled call within a graph of torch.compile.

The kernel stands between two operators, `enter` and `leave`, which hand on copies of what they get, so that cotangents
and gradients of exactly this call pass through their backward. Each is one node of the graph, and each time it runs it
is drawn whether this call is sampled. A number that travels from one to the other as a tensor says which call is meant.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from autoresearch_cuda.checks.judge import Call
from autoresearch_trainer.kernel_files import Kernel


class Recorder(Protocol):
    """Who draws and keeps the calls."""

    def begin(self, target: str, arguments: list[Any], wanted: tuple[int, ...]) -> Call | None:
        """A call begins; None where it is not sampled."""


@dataclass(frozen=True)
class _Site:
    """A place in a graph that calls a kernel. constants: its arguments in order, None where a tensor is."""

    recorder: Recorder
    target: str
    constants: tuple[Any, ...]


_sites: dict[str, _Site] = {}
_calls: WeakValueDictionary[int, Call] = WeakValueDictionary()  # as long as their recorder keeps them
# Counted apart: keys are part of the graph, and the same graph is found again in the cache of compiled code.
_keys, _numbers = itertools.count(), itertools.count()


def site(recorder: Recorder, target: str, constants: tuple[Any, ...]) -> str:
    """The key of a new place."""
    key = f"{target}/{next(_keys)}"
    _sites[key] = _Site(recorder, target, constants)
    return key


def between(function: Kernel, args: Sequence[Any], key: str) -> Any:
    """The call between the two operators; traced."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    wanted = [place for place, tensor in enumerate(tensors) if torch.is_grad_enabled() and tensor.requires_grad]
    entered = enter(tensors, key, wanted)
    given, place = [], 0
    for value in args:
        if isinstance(value, Tensor):
            given.append(entered[place])
            place += 1
        else:
            given.append(value)
    returned = function(*given)
    several = isinstance(returned, (tuple, list))
    left = leave(list(returned) if several else [returned], entered[place])
    return tuple(left) if several else left[0]


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


@torch.library.custom_op("kernel_checks::enter", mutates_args=())
def enter(tensors: list[Tensor], site: str, wanted: list[int]) -> list[Tensor]:
    """Copies of a call's arguments, and its number. wanted: places of those that have a gradient."""
    known, rest = _sites[site], iter(tensors)
    places = [place for place, value in enumerate(known.constants) if value is None]
    arguments = [next(rest) if value is None else value for value in known.constants]
    call = known.recorder.begin(known.target, arguments, tuple(places[index] for index in wanted))
    number = next(_numbers)
    if call is not None:
        _calls[number] = call
    return [*_copies(tensors), torch.tensor(number)]


@torch.library.custom_op("kernel_checks::leave", mutates_args=())
def leave(outputs: list[Tensor], number: Tensor) -> list[Tensor]:
    """Copies of the results."""
    call = _calls.get(int(number))
    if call is not None:
        call.outputs = _copies(outputs)
    return _copies(outputs)


@torch.library.custom_op("kernel_checks::cotangents", mutates_args=())
def cotangents(values: list[Tensor], number: Tensor, places: list[int]) -> list[Tensor]:
    """Copies of the cotangents that a call's backward gets. places: of the results that they are for."""
    call = _calls.get(int(number))
    if call is not None:
        call.cotangents = dict(zip(places, _copies(values), strict=True))
    return _copies(values)


@torch.library.custom_op("kernel_checks::gradients", mutates_args=())
def gradients(values: list[Tensor], number: Tensor, places: list[int]) -> list[Tensor]:
    """Copies of the gradients that a call's backward gives. places: among its tensors, of those that they are for."""
    call = _calls.get(int(number))
    if call is not None:
        tensors = [place for place, value in enumerate(call.arguments) if isinstance(value, Tensor)]
        call.gradients = {tensors[place]: value for place, value in zip(places, _copies(values), strict=True)}
    return _copies(values)


def _fake(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [torch.empty_like(tensor) for tensor in tensors]


@enter.register_fake
def _(tensors: list[Tensor], site: str, wanted: list[int]) -> list[Tensor]:
    return [*_fake(tensors), torch.empty((), dtype=torch.int64, device="cpu")]


@leave.register_fake
def _(outputs: list[Tensor], number: Tensor) -> list[Tensor]:
    return _fake(outputs)


@cotangents.register_fake
@gradients.register_fake
def _(values: list[Tensor], number: Tensor, places: list[int]) -> list[Tensor]:
    return _fake(values)


def _save_entered(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(output[-1])
    ctx.places = inputs[2]


def _save_left(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.places = list(range(len(inputs[0])))


def _passed(operator: Any, ctx: Any, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients through one of the two operators of the backward pass; None stays None."""
    (number,) = ctx.saved_tensors
    present = {place: grads[place] for place in ctx.places if grads[place] is not None}
    found = dict(zip(present, operator(list(present.values()), number, list(present)), strict=True))
    return [found.get(place) for place in range(len(grads))]


def _enter_backward(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    return _passed(gradients, ctx, grads)[:-1], None, None


def _leave_backward(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    return _passed(cotangents, ctx, grads), None


enter.register_autograd(_enter_backward, setup_context=_save_entered)
leave.register_autograd(_leave_backward, setup_context=_save_left)
