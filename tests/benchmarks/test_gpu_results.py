"""What comes back from benchmarks/gpu.sh, and how calls become one result."""

import json

import pytest

from autoresearch_lab.campaign.command import python, run_command
from autoresearch_lab.campaign.gpu import archive, counters
from autoresearch_lab.campaign.gpu.result import Benched
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.steps import TimeBox
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.trace.schema import KernelTime, TargetTime
from benchmarks.gpu import evidence

from .examples import ROW, call, measured, read


def test_an_archive_that_cannot_be_written_is_told_and_takes_nothing_with_it(tmp_path):
    setting = Setting(tmp_path / "nowhere", Root(tmp_path))
    assert archive.pack(setting)[0].startswith("everything (")


def test_two_calls_become_one_result_and_their_records_are_kept_once(tmp_path):
    first, second = {**measured(), "device_key": "cuda-1"}, {**measured(), "device_key": "cuda-1"}
    second["parts"]["bench"]["found"] = {"rope=triton_fused": {"verdict": "SAME", "rows": []}}
    second["parts"]["verify"]["found"] = {"rms_norm=triton_fused": {"verdict": None, "reason": "out of time"}}
    second["parts"]["train"] = {"state": "failed", "reason": "out of time", "seconds": 1.0, "found": None}
    folders = [
        call(tmp_path / "1", first, [("verify", "cuda-1"), ("compile", "cuda-1")]),
        call(tmp_path / "2", second, [("bench", "cuda-1")]),
    ]
    result, shipped = evidence.ship(folders, Root(tmp_path))
    assert shipped.added == 2 and [one.kind for one in Ledger(shipped.path).records()] == ["verify", "bench"]
    assert evidence.ship(folders, Root(tmp_path))[1].added == 0
    parts = json.loads(result.read_text())["parts"]
    assert {name: about["verdict"] for name, about in parts["bench"]["found"].items()} == {
        "rms_norm=triton_fused": "FASTER", "rope=triton_fused": "SAME",
    }  # fmt: skip
    assert parts["verify"]["found"]["rms_norm=triton_fused"]["verdict"] == "PASS"
    assert parts["train"]["state"] == "done" and json.loads(result.read_text())["seconds"] == 1000.0


def test_results_of_two_machines_or_of_a_rehearsal_are_not_merged():
    one, other = {**measured(), "device_key": "cuda-1"}, {**measured(), "device_key": "cuda-2"}
    with pytest.raises(ValueError, match="different machines"):
        evidence.merged([read(one), read(other)])
    with pytest.raises(ValueError, match="rehearsal"):
        evidence.merged([read({**one, "rehearsed": True})])


def test_a_folder_that_no_call_brought_back_is_bad_input(tmp_path):
    done = run_command(python("-m", "benchmarks.gpu.evidence", str(tmp_path / "nowhere")), TimeBox.of(60.0))
    assert done.code == 2 and done.err.startswith("error: ") and len(done.err.splitlines()) == 1


def test_the_worst_call_is_the_one_that_loses_most_time_against_the_ceiling():
    near, far = {**ROW, "direction": "forward"}, {**ROW, "direction": "backward", "target": "rope"}
    far["share_of_ceiling"] = {"triton_fused": 0.3}
    tiny = {**far, "target": "adamw_update", "share_of_ceiling": {"triton_fused": 0.001}, "calls_per_step": 0.5}
    found = counters.worst(Benched.model_validate({"a": {"rows": [near]}, "b": {"rows": [tiny, far, ROW]}}))
    assert (found.target, found.direction) == ("rope", "backward")
    assert counters.worst(None) is None


def test_what_is_told_of_a_trace_is_microseconds_under_every_range():
    def times(target, forward, optimizer, backward, calls):
        return TargetTime(
            target=target, forward_ms=forward, optimizer_ms=optimizer, backward_ms=backward, calls_per_step=calls,
            self_ms=forward + optimizer + backward, total_ms=1.0, share=0.5, launches_per_step=1.0,
        )  # fmt: skip

    targets = [times("rms_norm", 0.02, 0.0, 0.015, 2.0), times("adamw_update", 0.0, 0.5, 0.0, 1.0)]
    gemm = KernelTime(name="gemm", kind="kernel", ms=0.1, share=0.2, calls_per_step=1.0, under=[])
    found = counters.told(2, 0.6, targets, [gemm])
    ranges = {"adamw_update": 500.0, "rms_norm": 20.0, "rms_norm backward": 15.0}
    assert {name: row.us for name, row in found.ranges.items()} == pytest.approx(ranges)
    assert list(found.ranges) == list(ranges) and found.ranges["rms_norm"].calls == 2.0
    assert found.kernels[0].us == pytest.approx(100.0) and found.total_us == pytest.approx(600.0)
    found = counters.without_times(found)
    assert {row.us for row in found.ranges.values()} == {None} and found.total_us is None
