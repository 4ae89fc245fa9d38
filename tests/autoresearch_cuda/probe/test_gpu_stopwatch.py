"""Timing by events behind a backlog, on a planted GPU: what is seen is the kernels' own time, and cheats show."""

import random

import pytest
import torch
from planted_gpu import PlantedGpu, both_ways

from autoresearch_cuda.probe import extra_timings
from autoresearch_cuda.probe.ceilings import BACKLOG_NS, _gpu_seconds
from autoresearch_cuda.probe.gpu_stopwatch import MOST_HOLD_NS, OPEN, WARM, GpuStopwatch
from autoresearch_cuda.probe.stopwatch import Call
from autoresearch_lab.bench.gpu import check_events
from autoresearch_lab.errors import LabFailure
from autoresearch_trainer.jobs.timing import GpuTimes, TimeAnswer

CPU = torch.device("cpu")
SPEC = {"name": "x", "kind": "array", "dtype": "float32", "shape": [4, 8], "strides": [8, 1], "grad": True}


def a_call(gradient: bool = False) -> Call:
    workload = {"id": "w", "args": [SPEC], "gradient": gradient, "shifts": [1, 2]}
    return Call(workload, {"x": torch.rand(4, 8) + 1}, CPU)


def stopwatch(gpu: PlantedGpu) -> GpuStopwatch:
    return GpuStopwatch(CPU, gpu, gpu.clock)


def kernels(gpu: PlantedGpu, *times: float, host: float = 0.0, other: float = 0.0, waits: bool = False):
    """A kernel function whose forward pass launches kernels of these times."""

    def function(x):
        gpu.now += host
        if other:
            gpu.on_another_stream(other)
        for ns in times:
            gpu.kernel(ns)
        if waits:
            gpu.wait()
        return x * 2

    return function


def test_launching_is_not_part_of_a_short_kernels_time():
    gpu = PlantedGpu()
    timing = stopwatch(gpu).measure(kernels(gpu, 5_000), a_call(), 0)
    assert timing.forward_ns == 5_000 and timing.backward_ns == 0 and not timing.disturbed
    assert timing.queue_ns[0] == gpu.launch
    # Without a backlog the same call shows what the host and the start of the stream cost.
    assert stopwatch(gpu).measure(kernels(gpu, 5_000), a_call(), 0, OPEN).forward_ns > 9_000


def test_twenty_small_kernels_take_the_sum_of_their_times():
    gpu = PlantedGpu(launch=6_000)
    timing = stopwatch(gpu).measure(kernels(gpu, *[1_000] * 20), a_call(), 0)
    assert timing.forward_ns == 20_000


def test_a_backlog_that_did_not_last_is_noticed_and_made_longer():
    gpu = PlantedGpu()
    watch, call, slow = stopwatch(gpu), a_call(), kernels(gpu, 5_000, host=700_000)
    seen = [watch.measure(slow, call, number) for number in range(4)]
    assert [timing.disturbed for timing in seen] == [True, True, False, False]
    assert seen[0].forward_ns > 500_000 and seen[-1].forward_ns == 5_000
    assert sorted(set(gpu.held)) == [200_000, 400_000, 800_000]


def test_one_delay_by_the_system_does_not_make_a_kernel_one_that_waits():
    gpu = PlantedGpu()
    watch, call = stopwatch(gpu), a_call()
    delays = iter([20e6, 0, 20e6, 0] * 10)

    def delayed(x):
        gpu.now += next(delays)
        gpu.kernel(5_000)
        return x * 2

    seen = [watch.measure(delayed, call, number) for number in range(40)]
    assert not watch.waits(delayed, call)
    assert {timing.forward_ns for timing in seen if not timing.disturbed} == {5_000}


def test_a_kernel_that_waits_for_the_device_outlasts_every_backlog_and_is_named():
    gpu = PlantedGpu()
    watch, call, waiting = stopwatch(gpu), a_call(), kernels(gpu, 5_000, waits=True)
    seen = [watch.measure(waiting, call, number) for number in range(12)]
    assert watch.waits(waiting, call) and max(gpu.held) == MOST_HOLD_NS
    assert not seen[-1].disturbed and seen[-1].forward_ns > 10_000  # its host time counts


def test_backward_has_a_window_of_its_own():
    gpu = PlantedGpu()
    timing = stopwatch(gpu).measure(both_ways(gpu, 5_000, 12_000), a_call(gradient=True), 0)
    assert (timing.forward_ns, timing.backward_ns) == (5_000, 12_000)
    assert len(timing.outputs) == 2 and len(timing.host_ns) == 2


def test_the_cache_is_flushed_before_every_window_unless_it_shall_be_warm():
    gpu = PlantedGpu()
    watch, call = stopwatch(gpu), a_call()

    def cached(x):
        gpu.kernel(9_000 if gpu.flushed else 4_000)
        gpu.flushed = False
        return x * 2

    cold = [watch.measure(cached, call, number).forward_ns for number in range(3)]
    warm = [watch.measure(cached, call, number, WARM).forward_ns for number in range(3)]
    assert cold == [9_000] * 3 and warm == [4_000] * 3 and gpu.flushes == 3
    settings = watch.settings()
    assert settings["cache"] == "cold" and settings["backlog_us"] == [200.0, 200.0]


def answer(gpu: PlantedGpu, *functions, **changes) -> TimeAnswer:
    watch, calls = stopwatch(gpu), [a_call()]
    for function in functions:
        for number in range(4):
            watch.measure(function, calls[0], number)
    found = {**extra_timings.look(watch, functions, calls, random.Random(0)), **watch.account(), **changes}
    return TimeAnswer.model_construct(gpu=GpuTimes(**found, replayed=[], not_replayed=[]))


def test_honest_kernels_pass_the_check_of_the_clocks():
    gpu = PlantedGpu()
    raw = answer(gpu, kernels(gpu, 5_000), kernels(gpu, 40_000, 40_000), kernels(gpu, 2_000, host=50_000))
    check_events(raw, ["baseline", "library", "candidate"])
    assert raw.gpu.warm[1][0] == [80_000, 0] and raw.gpu.waits == [[False]] * 3
    assert raw.gpu.most_excess_us <= 0 < raw.gpu.seen_seconds < raw.gpu.host_seconds


def test_work_on_another_stream_is_refused():
    gpu = PlantedGpu()
    raw = answer(gpu, kernels(gpu, 90_000), kernels(gpu, 1_000, other=90_000))
    with pytest.raises(LabFailure, match="candidate: forward of workload 0 .* the events do not see"):
        check_events(raw, ["baseline", "candidate"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"most_excess_us": 40.0}, "by events in windows"),
        ({"seen_seconds": 2.0}, "by events in windows"),
        ({"seen_seconds": 0.1}, "explain only"),
    ],
)
def test_events_that_disagree_with_the_hosts_clock_are_refused(changes, words):
    gpu = PlantedGpu()
    raw = answer(gpu, kernels(gpu, 5_000), **{"host_seconds": 1.0, "seen_seconds": 0.9, **changes})
    with pytest.raises(LabFailure, match=words):
        check_events(raw, ["baseline"])


def test_ceilings_are_measured_behind_a_backlog_too():
    gpu = PlantedGpu(launch=6_000)
    # Small copies take less time than queueing them does.
    assert _gpu_seconds(lambda: gpu.kernel(1_500), gpu) == pytest.approx(1.5e-6)


def test_a_backlog_that_was_too_short_is_made_longer_before_it_becomes_a_ceiling():
    gpu = PlantedGpu(launch=60_000)  # ten launches take longer than the first backlog lasts
    assert _gpu_seconds(lambda: gpu.kernel(1_500), gpu) == pytest.approx(1.5e-6)
    assert gpu.held[:2] == [BACKLOG_NS, 2 * BACKLOG_NS]


def test_an_empty_window_shows_what_events_cost():
    assert stopwatch(PlantedGpu()).window_ns() == 0.0
