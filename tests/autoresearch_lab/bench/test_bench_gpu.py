"""What a bench on a GPU adds: warm times, replayed graphs, and who makes the host wait."""

import json

from autoresearch_lab.bench.gpu import replay_remarks, replayed, waiting, warm_times
from autoresearch_lab.bench.samples import Process
from autoresearch_lab.bench.table import _caches, _graphs
from autoresearch_lab.results.bench import BenchResults, Replayed, WorkloadTimes
from autoresearch_trainer.jobs.timing import GpuTimes, TimeAnswer

WORKLOADS = [{"id": "a"}, {"id": "b"}]


def process(warm, waits) -> Process:
    return answered(GpuTimes.model_construct(warm=warm, waits=waits))


def answered(gpu: GpuTimes | None) -> Process:
    return Process(TimeAnswer.model_construct(gpu=gpu))


def test_warm_times_are_medians_over_the_processes():
    processes = [process([[[ns, 0], [1e3, 2e3]], [[5e3, 0], [1e3, 2e3]]], []) for ns in (1e3, 2e3, 9e3)]
    found = warm_times(processes, ["baseline:x", "candidate:y"], WORKLOADS)
    assert found == {
        "baseline:x": {"a": [2.0, 0.0], "b": [1.0, 2.0]},
        "candidate:y": {"a": [5.0, 0.0], "b": [1.0, 2.0]},
    }
    json.dumps(found, allow_nan=False)
    assert warm_times([answered(None)], ["baseline:x"], WORKLOADS) is None


def test_the_table_shows_both_states_of_the_caches():
    workloads = [{"id": name, "calls_per_step": calls, "directions": {}} for name, calls in (("a", 2.0), ("b", 1.0))]
    # The ledger sorts its keys.
    warm = {"baseline:x": {"a": [10.0, 20.0], "b": [5.0, 0.0]}, "candidate:y": {"a": [5.0, 5.0], "b": [1.0, 0.0]}}
    warm["library:z"] = {"a": [0.0, 0.0], "b": [0.0, 0.0]}
    found = BenchResults.model_validate({"warm": warm, "workloads": workloads})
    assert _caches(found) == ["caches flushed before each call; warm: 65.0 us against 21.0 us per step"]
    assert _caches(BenchResults(warm=None)) == []


def test_a_kernel_that_makes_the_host_wait_is_named():
    processes = [process([], [[False, False], [False, late]]) for late in (False, True)]
    assert waiting(processes, ["quick", "slow"]) == [
        "slow makes the host wait for the GPU: its times hold the host's, too"
    ]
    assert waiting([answered(None)], ["quick"]) == []


def short(times, reasons=((None, None), (None, None))) -> Process:
    return answered(GpuTimes.model_construct(replayed=times, not_replayed=reasons))


def test_replayed_graphs_are_medians_over_the_processes_and_name_what_failed():
    processes = [short([[[ns, 0], None], [[5e3, 0], None]]) for ns in (1e3, 2e3, 9e3)]
    found = replayed(processes, ["baseline:x", "candidate:y"], WORKLOADS)
    assert found == Replayed(times={"baseline:x": {"a": [2.0, 0.0]}, "candidate:y": {"a": [5.0, 0.0]}}, failed={})
    waits = short([[None, None], [[5e3, 0], None]], [["no", None], [None, None]])
    found = replayed([processes[0], waits], ["baseline:x", "candidate:y"], WORKLOADS)
    assert found == Replayed(times={"candidate:y": {"a": [5.0, 0.0]}}, failed={"baseline:x": "no"})
    nothing = short([[None, None], [None, None]])
    assert replayed([nothing], ["baseline:x", "candidate:y"], WORKLOADS) is None
    assert replayed([answered(None)], ["baseline:x"], WORKLOADS) is None


def test_graphs_that_tell_another_speed_up_are_remarked():
    names = ["baseline:x", "library:z", "candidate:y"]
    graphs = Replayed(times={"baseline:x": {"a": [6.0, 3.0]}, "candidate:y": {"a": [4.0, 2.0]}}, failed={})

    def timed(ratio):
        return {"ratio": ratio, "interval": [ratio, ratio], "baseline_us": ratio, "candidate_us": 1.0}

    def rows(ratio):
        both = {"a": {"forward": timed(9.0), "both": timed(ratio)}, "b": {"forward": timed(9.0)}}
        return [WorkloadTimes(id=name, calls_per_step=1.0, directions=times) for name, times in both.items()]

    assert replay_remarks(graphs, names, rows(1.45)) == []
    assert replay_remarks(graphs, names, rows(1.2)) == ["a: x1.500 as replayed CUDA graphs, x1.200 by the backlog"]
    assert replay_remarks(None, names, rows(1.2)) == []
    workloads = [{"id": name, "calls_per_step": 1.0, "directions": {}} for name in ("a", "b")]
    found = BenchResults.model_validate({"replayed": graphs, "workloads": workloads})
    assert _graphs(found) == ["a as replayed CUDA graphs: 9.0 us against 6.0 us"]
    assert _graphs(BenchResults(replayed=None)) == []
