"""The GPU's clock: its parts do what they are for, and times come out as the hardware allows."""

import random

import pytest
import torch

from autoresearch_cuda.probe.ceilings import memory_seconds
from autoresearch_cuda.probe.gpu_stopwatch import OPEN, GpuStopwatch
from autoresearch_cuda.probe.observers import peak_bytes
from autoresearch_cuda.probe.replay import SHORT_NS, replay_short
from autoresearch_cuda.probe.stopwatch import Call
from autoresearch_cuda.probe.stream import CudaStream

ELEMENTS = 1 << 26


@pytest.fixture(scope="module")
def device() -> torch.device:
    return torch.device("cuda")


@pytest.fixture(scope="module")
def watch(device) -> GpuStopwatch:
    return GpuStopwatch(device)


def call(elements: int, gradient: bool = False) -> Call:
    spec = {"name": "x", "kind": "array", "dtype": "float32", "shape": [elements], "strides": [1], "grad": gradient}
    workload = {"id": "w", "args": [spec], "gradient": gradient, "shifts": [1]}
    return Call(workload, {"x": torch.rand(elements)}, torch.device("cuda"))


def test_a_backlog_lasts_about_as_long_as_asked_and_does_not_hold_the_host(device):
    stream = CudaStream(device)
    start = stream.mark()
    stream.hold(2e6)
    end = stream.mark()
    assert not stream.reached(end)
    stream.wait()
    assert 1.5e6 < stream.between(start, end) < 3e6


def test_an_empty_window_is_short(watch):
    assert watch.window_ns() < 20_000


def test_a_large_copy_takes_what_the_ceiling_says(watch, device):
    subject = call(ELEMENTS)
    times = [watch.measure(lambda x: x.clone(), subject, number).forward_ns for number in range(8)]
    moved = 2 * 4 * ELEMENTS
    ceiling = moved / memory_seconds(moved, device)["copy"]
    assert 0.5 < moved / (sorted(times)[4] / 1e9) / ceiling < 1.15


def test_launching_is_not_part_of_a_small_kernels_time(watch):
    subject = call(1024)
    cold = sorted(watch.measure(torch.relu, subject, number).forward_ns for number in range(20))[10]
    opened = sorted(watch.measure(torch.relu, subject, number, OPEN).forward_ns for number in range(20))[10]
    assert cold < 20_000 and cold <= opened


def test_twenty_launches_show_no_gaps(watch):
    subject = call(1024)

    def many(x):
        for _ in range(20):
            x = torch.relu(x)
        return x

    one = sorted(watch.measure(torch.relu, subject, number).forward_ns for number in range(20))[10]
    twenty = sorted(watch.measure(many, subject, number).forward_ns for number in range(20))[10]
    assert twenty < 40 * one


def test_a_kernel_that_waits_is_named(watch):
    subject = call(1024)

    def waiting(x):
        return x * x.sum().item()

    for number in range(12):
        watch.measure(waiting, subject, number)
    assert watch.waits(waiting, subject) and not watch.waits(torch.relu, subject)


def test_backward_is_timed_and_the_clocks_agree(watch):
    subject = call(1 << 22, gradient=True)
    timing = watch.measure(lambda x: torch.relu(x).square(), subject, 0)
    timing = watch.measure(lambda x: torch.relu(x).square(), subject, 1)
    assert timing.forward_ns > 0 and timing.backward_ns > 0
    account = watch.account()
    assert account["most_excess_us"] < 5.0
    assert 0.5 < account["seen_seconds"] / account["host_seconds"] <= 1.01


def test_peak_memory_of_a_call(device):
    peak = peak_bytes(lambda: [torch.zeros(1 << 20, device=device) for _ in range(3)], device)
    assert 12 << 20 <= peak < 14 << 20


def test_short_calls_are_replayed_as_graphs_and_agree_with_the_backlog(watch):
    def chain(x):
        return torch.relu(x).square().mul(2)

    def waiting(x):
        return x * x.sum().item()

    subject = call(1 << 20, gradient=True)
    numbers = range(15)
    behind = [sorted(watch.measure(chain, subject, n).forward_ns for n in numbers)[7] for _ in range(2)][-1]
    found = replay_short(watch, [chain, waiting], [subject], [[[[[SHORT_NS / 2, 0.0]]] * 2] * 2], random.Random(0))
    forward, backward = found["replayed"][0][0]
    assert 0.5 < forward / behind < 1.5 and backward > 0
    assert found["replayed"][1][0] is None and found["not_replayed"][1][0]
    # What could not be recorded has left the device in order.
    assert torch.relu(torch.ones(4, device="cuda")).sum().item() == 4
