"""Ranges nest, name every call forward and backward, and change nothing."""

import sys

import torch

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.probe.ranges import Ranges, nvtx_ranges


class Tape:
    """Notes ranges as they open and close."""

    def __init__(self):
        self.open, self.seen = [], []

    def push(self, name):
        self.open.append(name)
        self.seen.append(tuple(self.open))

    def pop(self):
        self.open.pop()


def step(ops, x):
    y = ops.rms_norm(x, 1e-6)
    return ops.relu_squared(y).sum()


def test_every_call_has_a_range_forward_and_backward():
    tape = Tape()
    ops = Ops.baseline(Ranges(tape.push, tape.pop))
    x = torch.randn(4, 8, requires_grad=True)
    loss = step(ops, x)
    assert tape.seen == [("rms_norm",), ("relu_squared",)] and not tape.open
    tape.seen.clear()
    loss.backward()
    names = [name for (name,) in tape.seen]
    assert set(names) == {"relu_squared backward", "rms_norm backward"}
    assert names.index("relu_squared backward") < names.index("rms_norm backward") and not tape.open


def test_a_call_inside_another_keeps_its_own_name():
    tape = Tape()
    ranges = Ranges(tape.push, tape.pop)
    inner = ranges("inner", lambda x: x.exp())
    outer = ranges("outer", lambda x: inner(x * 2.0).sin())
    y = outer(torch.ones(3, requires_grad=True))
    assert tape.seen == [("outer",), ("outer", "inner")]
    tape.seen.clear()
    y.sum().backward()
    assert tape.seen == [("outer backward",), ("inner backward",), ("outer backward",)]


def test_results_are_the_same_and_an_error_closes_its_range():
    tape = Tape()
    plain, ranged = Ops.baseline(), Ops.baseline(Ranges(tape.push, tape.pop))
    x = torch.randn(4, 8)
    assert torch.equal(step(plain, x), step(ranged, x))
    try:
        ranged.rms_norm(None, 1e-6)
    except AttributeError:
        pass
    assert not tape.open


def test_without_the_package_a_cuda_build_of_pytorch_has_nvtx_and_a_cpu_build_has_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvtx", None)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert Ranges.available() is None
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert nvtx_ranges() == (torch.cuda.nvtx.range_push, torch.cuda.nvtx.range_pop)
    assert Ranges.available() is not None
