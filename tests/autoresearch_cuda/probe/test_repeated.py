"""One small call many times: strays, a later hour, and memory that grows."""

import gc
import mmap
import time
from contextlib import contextmanager

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from autoresearch_cuda.probe import repeated
from autoresearch_cuda.probe.repeated import _Pace, repeat
from autoresearch_trainer.probe.clock import NAMES, MovableClock
from autoresearch_trainer.probe.memory import no_collection
from autoresearch_trainer.probe.repeated import FOLLOWING
from autoresearch_trainer.process import fill_fresh_memory


def found(function, x, refill, count):
    told = repeat(function, {"x": x}, refill, count, MovableClock())
    return told.calls, told.strayed


def test_calls_are_held_against_the_first():
    x = torch.arange(6.0)
    count = [0]

    def rarely(x):
        count[0] += 1
        return x + (count[0] % 100 == 0)

    def in_place(x):
        return x.add_(1)

    kept = x.clone()
    assert found(rarely, x, lambda: None, 300) == (300, 3)
    assert found(in_place, x, lambda: x.copy_(kept), 50) == (50, 0)
    assert found(in_place, x, lambda: None, 50) == (50, 54)  # and four at a later hour


def test_the_last_calls_come_a_day_later(monkeypatch):
    for name in NAMES:
        monkeypatch.setattr(time, name, getattr(time, name))
        monkeypatch.setattr(time, f"{name}_ns", getattr(time, f"{name}_ns"))
    clock = MovableClock()
    clock.install()
    began = time.monotonic()
    told = repeat(lambda x: x + (time.monotonic() - began > 100), {"x": torch.ones(3)}, lambda: None, 20, clock)
    assert told.calls == 20 and told.strayed == told.late > 0  # of the four two have new tensors


@pytest.mark.parametrize("keeps", [True, False])
def test_memory_that_grows_with_each_call(keeps):
    kept = []

    def function(x):
        y = x.square()
        if keeps:
            kept.append(y)
        return y

    told = repeat(function, {"x": torch.ones(256)}, lambda: None, 400, MovableClock())
    assert told.strayed == 0 and (told.leaked > 1000) == keeps


class _Ring(torch.autograd.Function):
    kept: list[torch.Tensor | None] = [None] * 16
    calls = 0

    @staticmethod
    def forward(ctx, x):
        ctx.place = _Ring.calls % 16
        _Ring.calls += 1
        _Ring.kept[ctx.place] = x.detach()
        return x.square()

    @staticmethod
    def backward(ctx, g):
        return 2 * g * _Ring.kept[ctx.place]


class _RingOfGradients(torch.autograd.Function):
    kept = [torch.empty(6) for _ in range(20)]

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        _RingOfGradients.kept.append(_RingOfGradients.kept.pop(0))
        return torch.mul(2 * g, x, out=_RingOfGradients.kept[-1]).view(6)


class _Circle(torch.autograd.Function):
    """Its result and its context hold each other."""

    @staticmethod
    def forward(ctx, x):
        ctx.y = x.square()
        ctx.save_for_backward(x)
        return ctx.y

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


def test_a_circle_that_only_a_collection_gives_back_is_a_leak():
    x = torch.arange(256.0).requires_grad_()
    for function, grows in ((_Circle.apply, True), (torch.square, False)):
        told = repeat(function, {"x": x}, lambda: None, 400, MovableClock())
        assert told.strayed == 0 and (told.leaked > 1000) == grows
    assert gc.isenabled()


@pytest.mark.parametrize("what", ["memory", "seed", "version"])
def test_the_last_calls_are_as_in_a_training(what):
    weight = torch.ones(3).requires_grad_()
    unset, state = torch.initial_seed(), torch.get_rng_state()

    def filled():
        fresh = torch.empty(3000, dtype=torch.uint8)
        return bool((fresh == 0xFE).all())

    def function(x):
        wrong = {"memory": not filled(), "seed": torch.initial_seed() != unset, "version": x._version > 0}[what]
        return x * 2 + wrong

    fill_fresh_memory(0xFE)
    try:
        told = repeat(function, {"x": weight}, lambda: None, 20, MovableClock(), 0xFE)
        assert filled()
    finally:
        fill_fresh_memory(0xFF)
    assert told.calls == 20 and told.strayed == told.late > 0  # of the two one has new tensors
    assert torch.initial_seed() == unset and torch.equal(torch.get_rng_state(), state)


def test_calls_in_flight_at_once():
    x = torch.arange(6.0).requires_grad_()
    outputs = [torch.empty(6) for _ in range(20)]

    def ring_of_outputs(x):
        outputs.append(outputs.pop(0))
        return outputs[-1].copy_(x.detach()).detach()

    rings = (_Ring.apply, ring_of_outputs, _RingOfGradients.apply)
    for function, wrong in ((torch.square, False), *((ring, True) for ring in rings)):
        told = repeat(function, {"x": x}, lambda: None, 10, MovableClock())
        assert told.strayed == 0 and (told.crossed > 10) == wrong


@pytest.mark.parametrize("tied", [True, False])
def test_memory_that_only_the_collector_gives_back(tied):
    def function(x):
        knot = [x.square()]
        if tied:
            knot.append(knot)
        return knot[0]

    told = repeat(function, {"x": torch.ones(256)}, lambda: None, 400, MovableClock())
    assert (told.leaked > 1000) == tied


def test_what_checkpoints_leave_for_the_collector_is_no_leak():
    def part(x):
        return torch.tanh(x).sum()

    def parts(x):
        return sum(checkpoint(part, each, use_reentrant=False) for each in x.split(8))

    x = torch.ones(64, requires_grad=True)
    told = repeat(lambda x: checkpoint(parts, x, use_reentrant=False), {"x": x}, lambda: None, 100, MovableClock())
    assert told.calls >= 4 and told.leaked == 0.0  # in each of the parts one, on a machine under load


def test_what_is_kept_of_every_new_tensor():
    kept = {}

    def function(x):
        kept[x.data_ptr()] = x
        return x.square()

    told = repeat(function, {"x": torch.ones(256)}, lambda: None, 400, MovableClock())
    assert told.strayed == 0 and told.leaked > 400


def test_what_is_kept_until_a_backward_that_never_comes():
    kept = {}

    class UntilBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.key = object()
            kept[ctx.key] = x.detach()
            return x.square()

        @staticmethod
        def backward(ctx, g):
            return 2 * g * kept.pop(ctx.key)

    x = torch.arange(256.0).requires_grad_()
    told = repeat(UntilBackward.apply, {"x": x}, lambda: None, 400, MovableClock())
    assert told.strayed == 0 and told.leaked > 100


def test_new_tensors_of_a_parameter_are_parameters():
    seen = set()

    def function(p):
        seen.add(type(p))
        return p * 2

    values = {"p": torch.nn.Parameter(torch.rand(8))}
    repeat(function, values, lambda: None, 10, MovableClock(), updated=["p"])
    assert seen == {torch.nn.Parameter}
    repeat(function, values, lambda: None, 10, MovableClock())
    assert seen == {torch.nn.Parameter, torch.Tensor}  # behind an operator


def test_of_long_calls_there_are_fewer():
    short, long = _Pace(1e-4, 1 << 10, 1 << 11), _Pace(0.11, 1 << 20, 1 << 21)
    assert (short.following, long.following) == (FOLLOWING, 2)
    assert _Pace(1e-4, 1 << 26, 1 << 27).following == 4  # whose arguments and results fill the memory
    assert short.repeating > long.repeating
    assert (short.least_leak, long.least_leak) == (0.0, 1 << 15)


def test_calls_that_follow_each_other():
    own = {}

    def kept_beside(x, state):
        """Its own state counts, where the one that is handed in is what it left."""
        before = own["state"] if "left" in own and torch.equal(own["left"], state) else state
        state.copy_(before + x)
        own.update(left=state.clone(), state=state * 1.01)
        return state

    def nearly_the_same(x, state):
        if "x" not in own or not torch.allclose(own["x"], x, rtol=0.1):
            own["x"] = x.clone()
        return state.add_(own["x"])

    def right(x, state):
        return state.add_(x)

    for function, wrong in ((kept_beside, True), (nearly_the_same, True), (right, False)):
        own.clear()
        x, state = torch.rand(64) + 1, torch.rand(64)
        values = {"x": x, "state": state}
        began = state.clone()
        told = repeat(function, values, lambda: state.copy_(began), 10, MovableClock(), updated=["state"])  # noqa: B023
        assert told.strayed == 0 and (told.followed > 2) == wrong


def test_steps_of_an_optimizer_follow_each_other_for_two_parameters_of_one_shape():
    own = {}

    def kept_by_shape(state, step, rate):
        if own.get("step") == step - 1:
            state.copy_(own["state"])
        state.add_(rate / step)
        own.update(step=step, state=state.clone())
        return state

    def kept_while_the_rate_falls_slowly(state, step, rate):
        if "rate" not in own or abs(own["rate"] - rate) > 0.01 * rate:
            own["rate"] = rate
        return state.add_(own["rate"] / step)

    def right(state, step, rate):
        return state.add_(rate / step)

    for function, wrong in ((kept_by_shape, True), (kept_while_the_rate_falls_slowly, True), (right, False)):
        own.clear()
        state = torch.rand(64)
        values = {"state": state, "step": 7, "rate": 0.1}
        began = state.clone()
        told = repeat(function, values, lambda: state.copy_(began), 10, MovableClock(), updated=["state"])  # noqa: B023
        assert told.strayed == 0 and (told.followed > 2) == wrong


@pytest.mark.parametrize("keeps", [True, False])
def test_what_is_kept_for_every_step(keeps, monkeypatch):
    kept = {}

    @contextmanager
    def long_in_coming():
        time.sleep(repeated.ONWARD_SECONDS)  # a collection in a large process, which is no call's time
        with no_collection():
            yield

    monkeypatch.setattr(repeated, "no_collection", long_in_coming)

    def function(state, step, rate):
        if step not in kept:
            kept[step] = torch.full_like(state, step) if keeps else 1.0 / step
        return state.add_(kept[step])

    state = torch.rand(512)
    values = {"state": state, "step": 7, "rate": 0.1}
    began = state.clone()
    told = repeat(function, values, lambda: state.copy_(began), 10, MovableClock(), updated=["state"])
    assert told.strayed == 0 and (told.leaked > 2000) == keeps


def test_calls_behind_an_operator_are_held_against_leaves_and_kept_in_flight():
    kept: dict[torch.Size, torch.Tensor] = {}

    class InOneBuffer(torch.autograd.Function):
        """Where another layer made what it is given, all results lie in one place."""

        @staticmethod
        def forward(ctx, x, inner):
            return (kept.setdefault(x.shape, torch.empty_like(x)) if inner else torch.empty_like(x)).copy_(x)

        @staticmethod
        def backward(ctx, g):
            return g, None

    values = {"x": torch.arange(6.0).requires_grad_()}
    told = repeat(lambda x: InOneBuffer.apply(x, x.grad_fn is not None), values, lambda: None, 20, MovableClock())
    assert told.crossed and not told.apart and not told.strayed
    told = repeat(lambda x: x * (1.0 if x.is_leaf else 1.001), values, lambda: None, 20, MovableClock())
    assert told.apart and not told.crossed and not told.strayed


def test_where_gradients_are_switched_off_no_leaf_is_held_against_what_wants_no_gradient():
    values = {"x": torch.arange(6.0).requires_grad_()}
    with torch.no_grad():
        told = repeat(lambda x: x * (1.0 if x.requires_grad else 1.001), values, lambda: None, 20, MovableClock())
    assert not told.apart and not told.strayed


@pytest.mark.parametrize("kept", [0, 1 << 12])
def test_memory_that_did_not_come_from_malloc_is_a_leak(kept: int):
    maps = []

    def function(x):
        if kept:
            maps.append(mmap.mmap(-1, kept))
        return x * 2

    told = repeat(function, {"x": torch.ones(4)}, lambda: None, 40, MovableClock())
    assert (told.leaked > 0) == bool(kept)
