"""One small call made many times: does it always give the same bits, later in a training too, whatever other calls are
in flight and whatever came before, and does memory grow?"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from autoresearch_cuda.probe.context import consumed, tensors_of
from autoresearch_cuda.probe.tensors import relocated, shuffled
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.clock import MovableClock
from autoresearch_trainer.probe.memory import LEAST_GARBAGE, PARTS, Growth, allocated, in_heap, mapped, no_collection
from autoresearch_trainer.probe.repeated import (
    DRIFT,
    FEWEST_FOLLOWING,
    FOLLOWING,
    IN_FLIGHT,
    MOST_HELD,
    OTHER_RATES,
    REPEAT_SECONDS,
    Repeated,
    following_calls,
    many_times,
    next_step,
    turns,
)
from autoresearch_trainer.process import fill_fresh_memory

# What comes between the leaves of a call and the kernel, for each argument.
Between = Callable[[Any], Any]
_grad, _equal, _monotonic = torch.autograd.grad, torch.equal, time.monotonic
# By so much the clocks are moved on during the last of the calls: a day and some.
LATER = 100_000
# Beside so many of the calls there is one more, which nobody differentiates.
DROPPED = 4
# A byte that stands for filling nothing, see `fill_fresh_memory`; a seed as a training may have one.
UNFILLED, SEED = 0xFF, 42
# Of the calls in flight there are fewer where they take long.
IN_FLIGHT_SECONDS = 0.4
# A call that takes so long, and a result of so many bytes, are large.
LONG_SECONDS, LARGE_RESULT = 0.01, 1 << 17
# Calls in each of which the step is another, and the time in which they have to be made to be looked at; more than a
# cache of usual size keeps are made before growth counts. Less growth for each step is no tensor.
ONWARD, ONWARD_SECONDS, LEAST_PER_STEP = 4 * 132, 1.0, 400


def repeat(
    function: Kernel,
    values: Mapping[str, Any],
    refill: Callable[[], None],
    count: int,
    clock: MovableClock,
    pattern: int = UNFILLED,
    updated: Collection[str] = (),
    compiled: bool = False,
) -> Repeated:
    """At most `count` calls in at most REPEAT_SECONDS, forward and backward, every other one with new tensors, as a
    trainer makes them, by turns leaves and behind an operator. refill: puts the contents back before a call, which may
    have updated them. pattern: the byte that fresh memory is filled with. updated: arguments that a call updates in
    place. compiled: the function is compiled for what is given, so that nothing comes behind an operator."""
    given = list(values.values())
    leaves = [value for value in given if isinstance(value, torch.Tensor) and value.requires_grad]

    layers = (_as_it_is,) if compiled or updated else (_as_it_is, _moved)

    def results(number: int) -> list[torch.Tensor]:
        refill()
        between = layers[number // 2 % len(layers)]
        return _differentiated(function, _copies(given) if number % 2 else given, between)

    generator = torch.Generator().manual_seed(1)
    began = _monotonic()
    first = [results(number) for number in range(2 * len(layers))]
    results_bytes = [each.nbytes for each in first[0]]
    given_bytes = [value.nbytes for value in given if isinstance(value, torch.Tensor)]
    seconds = (_monotonic() - began) / len(first)
    pace = _Pace(seconds, max(results_bytes, default=0), sum(results_bytes) + sum(given_bytes))

    def once(number: int) -> bool:
        if number % DROPPED == number // DROPPED % DROPPED:  # never in step with a count of the kernel's
            # Whose backward never comes: a graph that is thrown away leaves nothing either. With other contents each
            # time, for which nothing may be kept.
            _forward(function, [_other(value, generator) for value in given])
        return _same(results(number), first[number % len(first)])

    # Garbage that holds a result, or something as large.
    sizes = [each.nbytes for each in first[0] if each.ndim]
    growths = (Growth(_used, max(LEAST_GARBAGE, min(sizes, default=0)), _held), Growth(mapped))
    made, strayed = many_times(once, count, pace.repeating, growths)
    late = 0
    with _a_training(leaves, pattern, clock):
        for number in range(min(made, len(first))):
            late += not once(number)
    leaked = max(growth.per_call() for growth in growths)
    if updated and ONWARD * pace.seconds < ONWARD_SECONDS:
        leaked = max(leaked, _kept_by_step(function, values))
    if leaked < pace.least_leak:
        leaked = 0.0
    refill()
    # For other rates a compiled step is compiled anew.
    followed = _followed(function, values, updated, FEWEST_FOLLOWING if compiled and updated else pace.following)
    crossed = _crossed(function, values, layers)
    # Where gradients are switched off, what comes out of an operator wants none as a parameter still does, by which
    # PyTorch's own matrix product chooses its way.
    apart = torch.is_grad_enabled() and any(not _same(first[0], each) for each in first)
    return Repeated(made, strayed + late, late, leaked, crossed, followed, apart)


@dataclass(frozen=True)
class _Pace:
    """How much is done with a call that takes so many seconds and has a result of so many bytes, and so many in all its
    arguments and results: of long and large calls less."""

    seconds: float
    result_bytes: int
    call_bytes: int

    @property
    def repeating(self) -> float:
        """Seconds of calls with the same contents."""
        return REPEAT_SECONDS if self.seconds < LONG_SECONDS else REPEAT_SECONDS / 2

    @property
    def following(self) -> int:
        """How many calls of one set of arguments follow each other."""
        return following_calls(self.seconds, self.call_bytes)

    @property
    def least_leak(self) -> float:
        """Bytes of each call under which growth is chance, where few calls are made and their results are large; all
        smaller leaks show in small calls."""
        return self.result_bytes / 32 if self.result_bytes > LARGE_RESULT else 0.0


@contextmanager
def _a_training(leaves: Sequence[torch.Tensor], pattern: int, clock: MovableClock) -> Iterator[None]:
    """Within it some is as a training has it a day after its start, and as it is in no other call here: nobody fills
    fresh memory, a seed was set, and what is learned was written to."""
    state = torch.get_rng_state()
    fill_fresh_memory(UNFILLED)
    # What was given back while it was filled holds that still.
    numbers = torch.arange(1 << 14).to(torch.uint8)
    used = [numbers[:size].clone() for size in range(64, 1 << 14, 64) for _ in range(2)]
    del used
    torch.default_generator.manual_seed(SEED)
    for leaf in leaves:
        torch.autograd.graph.increment_version(leaf)
    try:
        with clock.ahead(LATER):
            yield
    finally:
        torch.set_rng_state(state)
        fill_fresh_memory(pattern)


def _crossed(function: Kernel, values: Mapping[str, Any], layers: Sequence[Between]) -> int:
    """How many calls differ when the outputs of all are kept, and backward of none begins before forward of all ended,
    from the same calls one after the other. layers: what comes before the kernel, by turns."""
    generator = torch.Generator().manual_seed(0)
    calls: list[list[Any]] = []
    alone: list[list[torch.Tensor]] = []
    end = _monotonic() + IN_FLIGHT_SECONDS
    while len(calls) < IN_FLIGHT and (len(calls) < 2 or _monotonic() < end):
        calls.append([_shuffled(value, generator) for value in values.values()])
        alone.append(_differentiated(function, _copies(calls[-1]), layers[len(alone) % len(layers)]))
    flying: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    before = _used()
    for number, arguments in enumerate(calls):
        if len(flying) < 2 or _used() - before < MOST_HELD:
            flying.append(_forward(function, _copies(arguments), layers[number % len(layers)]))
    # A gradient is wanted until the optimizer has seen all of them. They come in any order: a model's come last first.
    order = torch.randperm(len(flying), generator=generator).tolist()
    together = {number: _backward(*flying[number], copied=False) for number in order}
    return sum(not _same(alone[number], together[number]) for number in order)


def _followed(function: Kernel, values: Mapping[str, Any], updated: Collection[str], count: int = FOLLOWING) -> int:
    """How many calls differ, each on what the one before left in its arguments, from the same calls by themselves. What
    is updated goes on from call to call, and all else hardly changes, as in a training: whoever keeps something for the
    next call, or takes what is nearly the same for the same, is wrong in these alone. First two sets of arguments take
    turns, as two parameters of one shape do. An optimizer's steps go on by one, and the rates of the first set fall.
    """
    generator = torch.Generator().manual_seed(0)
    # What is written to, though seen in many places, lies dense.
    sets = tuple([_shuffled(value, generator) for value in values.values()] for _ in range(2))
    if updated:
        sets[1][:] = [value * OTHER_RATES if isinstance(value, float) else value for value in sets[1]]
    calls, following = [], []
    for which in turns(count):
        arguments = sets[which]
        calls.append(_copies(arguments))
        following.append(_differentiated(function, arguments))
        if updated:
            fall = 1 - DRIFT if which == 0 else 1.0
            arguments[:] = next_step(values, arguments, fall)
        for name, argument in zip(values, arguments, strict=True):
            if name not in updated and isinstance(argument, torch.Tensor) and argument.is_floating_point():
                noise = torch.randn(argument.shape, generator=generator).to(argument.device)
                argument.data.mul_(1 + DRIFT * noise)
    # In another order, and each after a call with other contents, so that nothing follows what it followed before.
    alone = []
    for call in reversed(calls):
        _differentiated(function, [_shuffled(value, generator) for value in values.values()])
        alone.append(_differentiated(function, call))
    return sum(not _same(one, other) for one, other in zip(following, reversed(alone), strict=True))


def _kept_by_step(function: Kernel, values: Mapping[str, Any]) -> float:
    """Bytes by which the memory in use grows with each call where each is of another step, with rates of its own; 0
    where the calls take too long to tell."""
    growth = Growth(_used)
    arguments = list(values.values())
    with no_collection():
        # Only now: the collection before it takes long in a large process.
        end = _monotonic() + ONWARD_SECONDS
        growth.read(0)
        for made in range(1, ONWARD + 1):
            function(*arguments)
            arguments = next_step(values, arguments, 1 - DRIFT**2)
            if made % (ONWARD // PARTS) == 0:
                growth.read(made)
            if _monotonic() > end:
                return 0.0
    found = growth.per_call()
    return found if found >= LEAST_PER_STEP else 0.0


def _shuffled(value: Any, generator: torch.Generator) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return _like(value, shuffled(value.detach(), generator))


def _other(value: Any, generator: torch.Generator) -> Any:
    """The value with its rows exchanged, and its numbers, of a single one too, a little different."""
    other = _shuffled(value, generator)
    if isinstance(other, torch.Tensor) and other.is_floating_point():
        other.data.mul_(1 + DRIFT * float(torch.randn((), generator=generator)))
    return other


def _copies(arguments: Sequence[Any]) -> list[Any]:
    """The same values in tensors of their own, which lie as those do: in another layout a library may round otherwise.
    Of a parameter a parameter."""
    return [_like(each, relocated(each.detach())) if isinstance(each, torch.Tensor) else each for each in arguments]


def _like(value: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    """`copy` as `value` is: a parameter, or something that wants a gradient, or not."""
    if isinstance(value, torch.nn.Parameter):
        return torch.nn.Parameter(copy, value.requires_grad)
    return copy.requires_grad_(value.requires_grad)


def _as_it_is(value: Any) -> Any:
    return value


def _moved(value: Any) -> Any:
    """What wants a gradient as the result of an operator, as what comes out of a layer is."""
    return consumed(value) if isinstance(value, torch.Tensor) else value


def _forward(
    function: Kernel, arguments: Sequence[Any], between: Between = _as_it_is
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """(leaves, outputs) of a call. between: what comes between the leaves and the kernel."""
    leaves = [each for each in arguments if isinstance(each, torch.Tensor) and each.requires_grad]
    return leaves, tensors_of(function(*map(between, arguments)))


def _differentiated(function: Kernel, arguments: Sequence[Any], between: Between = _as_it_is) -> list[torch.Tensor]:
    """The outputs and the gradients of a call."""
    return _backward(*_forward(function, arguments, between))


def _backward(leaves: list[torch.Tensor], outputs: list[torch.Tensor], *, copied: bool = True) -> list[torch.Tensor]:
    """The outputs and the gradients of the leaves, for cotangents of one. copied: as they are now, whatever is written
    to them later."""
    reached = [each for each in outputs if each.requires_grad]
    ones = [torch.ones_like(each) for each in reached]
    grads = _grad(reached, leaves, ones, allow_unused=True) if reached else ()
    found = [each.detach() for each in (*outputs, *grads) if each is not None]
    return [each.clone() for each in found] if copied else found


def _used() -> int:
    """Bytes in use, on a GPU as well."""
    return allocated() + _on_gpu()


def _held() -> int:
    """The same without Python's small objects."""
    return in_heap() + _on_gpu()


def _on_gpu() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def _same(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    return len(some) == len(others) and all(map(_same_bits, some, others))


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """NaN equals NaN here."""
    bits = [each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)]
    return one.shape == other.shape and _equal(*bits)
