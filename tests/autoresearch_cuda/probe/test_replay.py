"""Short calls as replayed graphs, on a planted GPU: kernels' own times, and reasons where there are none."""

import random

from planted_gpu import PlantedGpu, both_ways
from test_gpu_stopwatch import a_call, kernels, stopwatch

from autoresearch_cuda.probe.replay import SHORT_NS, replay_short


def replays(gpu: PlantedGpu, *functions, measured_ns: float = 5_000, gradient: bool = False) -> dict:
    samples = [[[[[measured_ns, 0.0]] for _ in functions] for _ in range(2)]]
    return replay_short(stopwatch(gpu), functions, [a_call(gradient)], samples, random.Random(0))


def test_a_graph_of_many_kernels_takes_the_sum_of_their_times_however_long_launching_takes():
    gpu = PlantedGpu(launch=60_000)
    found = replays(gpu, kernels(gpu, 5_000), kernels(gpu, *[1_000] * 20))
    assert found == {"replayed": [[[5_000, 0.0]], [[20_000, 0.0]]], "not_replayed": [[None], [None]]}
    assert gpu.flushes > 0


def test_backward_has_a_graph_of_its_own():
    gpu = PlantedGpu()
    assert replays(gpu, both_ways(gpu, 5_000, 12_000), gradient=True)["replayed"] == [[[5_000, 12_000]]]


def test_long_calls_are_not_replayed():
    gpu = PlantedGpu()
    found = replays(gpu, kernels(gpu, 5_000), measured_ns=SHORT_NS)
    assert found == {"replayed": [[None]], "not_replayed": [[None]]} and not gpu.held


def test_a_kernel_that_waits_cannot_be_recorded_and_the_others_are():
    gpu = PlantedGpu()
    found = replays(gpu, kernels(gpu, 5_000), kernels(gpu, 5_000, waits=True))
    assert found["replayed"] == [[[5_000, 0.0]], [None]]
    assert found["not_replayed"] == [
        [None],
        ["RuntimeError: operation not permitted when stream is capturing"],
    ]


def test_a_kernel_that_does_nothing_when_it_is_recorded_is_found_out():
    gpu = PlantedGpu()

    def shirks(x):
        gpu.kernel(5_000)
        return x * 0 if gpu.recorded is not None else x * 2

    found = replays(gpu, shirks)
    assert found["replayed"] == [[None]] and "something else" in found["not_replayed"][0][0]


def test_arguments_that_are_updated_in_place_start_afresh():
    gpu = PlantedGpu()

    def doubles(x):
        gpu.kernel(3_000)
        return x.mul_(2)

    assert replays(gpu, doubles)["replayed"] == [[[3_000, 0.0]]]
