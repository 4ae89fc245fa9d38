"""Time belongs to the call that caused it: shown with calls of known duration, forward and backward."""

import time

import pytest
import torch
from torch import nn

from autoresearch_cuda.probe.attribution import Recorder, watched
from autoresearch_cuda.probe.clocks import HostClock

FORWARD, BACKWARD = 0.010, 0.020


class Time:
    """A clock that moves only when it is told to."""

    now = 100.0

    def pass_by(self, seconds):
        self.now += seconds


TIME = Time()


class Slow(torch.autograd.Function):
    """The identity, with a known duration each way."""

    @staticmethod
    def forward(ctx, x):
        TIME.pass_by(FORWARD)
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        TIME.pass_by(BACKWARD)
        return g


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: TIME.now)
    return Recorder(HostClock())


exactly = pytest.approx


class Leading(HostClock):
    """As a GPU's clock: before a phase the stream waits for the host."""

    def lead(self):
        start = self.mark()
        TIME.pass_by(0.5)
        return start, self.mark()


def test_what_the_stream_waits_for_the_host_is_no_part_of_the_step(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: TIME.now)
    recorder = Recorder(Leading())
    x = torch.ones(3, requires_grad=True)
    recorder.begin()
    loss = recorder.timed("forward", lambda: recorder.call("a", Slow.apply, x).sum())()
    recorder.backward_begins(loss)
    loss.backward()
    record = recorder.end()
    assert record.seconds == exactly(FORWARD + BACKWARD)
    assert record.phases == {"forward": exactly(FORWARD), "backward": exactly(BACKWARD)}
    assert record.shares["a"].own_backward == exactly(BACKWARD)


def test_backward_belongs_to_the_call_that_made_the_node(recorder):
    x = torch.ones(3, requires_grad=True)
    recorder.begin()
    y = recorder.call("a", Slow.apply, x) * 2
    z = recorder.call("b", lambda v: Slow.apply(Slow.apply(v)), y)
    loss = z.sum()
    recorder.backward_begins(loss)
    loss.backward()
    record = recorder.end()
    a, b = record.shares["a"], record.shares["b"]
    assert a.own_forward == exactly(FORWARD) and a.own_backward == exactly(BACKWARD)
    assert b.own_forward == exactly(2 * FORWARD) and b.own_backward == exactly(2 * BACKWARD)
    assert record.seconds == exactly(3 * (FORWARD + BACKWARD))
    assert x.grad.tolist() == [2, 2, 2]


def test_inner_call_owns_its_nodes_and_the_outer_one_includes_them(recorder):
    x = torch.ones(3, requires_grad=True)

    def outer(v):
        return Slow.apply(recorder.call("inner", Slow.apply, v))

    recorder.begin()
    loss = recorder.call("outer", outer, x).sum()
    recorder.backward_begins(loss)
    loss.backward()
    shares = recorder.end().shares
    assert shares["inner"].own_backward == exactly(BACKWARD)
    assert shares["outer"].own_forward == exactly(FORWARD) and shares["outer"].own_backward == exactly(BACKWARD)
    assert shares["outer"].whole_forward == exactly(2 * FORWARD)
    assert shares["outer"].whole_backward == exactly(2 * BACKWARD)


def test_nodes_of_no_call_are_nobodys(recorder):
    x = torch.ones(3, requires_grad=True)
    recorder.begin()
    loss = Slow.apply(recorder.call("a", Slow.apply, Slow.apply(x))).sum()
    recorder.backward_begins(loss)
    loss.backward()
    TIME.pass_by(1.0)
    record = recorder.end()
    assert record.shares["a"].own_backward == exactly(BACKWARD)
    assert record.phases["backward"] == exactly(3 * BACKWARD)


def test_several_backward_passes_in_a_step(recorder):
    x = torch.ones(3, requires_grad=True)
    recorder.begin()
    for _ in range(3):
        loss = recorder.call("a", Slow.apply, x).sum()
        recorder.backward_begins(loss)
        loss.backward()
        TIME.pass_by(1.0)
    record = recorder.end()
    assert record.shares["a"].own_backward == exactly(3 * BACKWARD) and record.shares["a"].calls == 3
    assert record.phases["backward"] == exactly(3 * BACKWARD)


def test_time_outside_of_calls_is_nobodys(recorder):
    x = torch.ones(3, requires_grad=True)
    recorder.begin()
    TIME.pass_by(0.02)
    recorder.call("a", lambda v: v * 2, x)
    record = recorder.end()
    assert record.seconds == exactly(0.02)
    assert record.shares["a"].own_forward == 0
    assert record.shares["a"].calls == 1


def test_looking_costs_nothing_on_the_clock(recorder):
    with recorder.clock.pause():
        start = recorder.clock.mark()
    with recorder.clock.pause():
        TIME.pass_by(0.02)
    assert recorder.clock.seconds(start, recorder.clock.mark()) == exactly(0)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.relu = nn.ReLU()

    def forward(self, x):
        return Slow.apply(self.relu(self.layer(x))).sum()


def test_phases_and_watched_modules(recorder):
    model = Model()
    with watched(recorder, model, {nn.Linear: "linear"}):
        recorder.begin()
        loss = model(torch.ones(2, 4))
        loss.backward()
        recorder.timed("optimizer", lambda: TIME.pass_by(0.01))()
        record = recorder.end()
    assert record.phases["forward"] == exactly(FORWARD)
    assert record.phases["backward"] == exactly(BACKWARD)
    assert record.phases["optimizer"] == exactly(0.01)
    assert set(record.shares) == {"linear"} and record.shares["linear"].calls == 1
    assert sum(record.phases.values()) == exactly(record.seconds)


def test_nothing_stays_behind(recorder):
    model = Model()
    before = {name: vars(module).copy() for name, module in model.named_modules()}
    with watched(recorder, model, {nn.Linear: "linear"}):
        pass
    assert {name: set(vars(module)) for name, module in model.named_modules()} == {n: set(v) for n, v in before.items()}
    assert not model._forward_hooks
    recorder.timed("optimizer", lambda: None)()
    assert recorder._phases == []


def test_backward_of_an_earlier_step_is_not_counted(recorder):
    x = torch.ones(3, requires_grad=True)
    recorder.begin()
    y = recorder.call("a", lambda v: v * 2, x)
    recorder.end()
    recorder.begin()
    y.sum().backward()
    assert recorder.end().shares == {}
