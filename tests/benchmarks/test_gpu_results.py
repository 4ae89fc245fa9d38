"""What comes back from benchmarks/gpu.sh, how calls become one result, and what is shown of it."""

import json
import tarfile

import pytest

from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import CHECKOUT, Root
from benchmarks.gpu import counters, evidence, report, trace
from benchmarks.gpu.command import run
from benchmarks.gpu.setting import Setting

ROW = {
    "target": "rms_norm", "kernel": "triton_fused", "workload": "rms_norm-00000001", "shapes": [[8, 2048, 512]],
    "calls_per_step": 4.0, "direction": "both", "ratio": 1.5, "interval": [1.4, 1.6], "record": "a" * 64,
    "microseconds": {"baseline": 30.0, "triton_fused": 20.0, "torch_eager (compiled)": 22.0},
    "share_of_ceiling": {"baseline": 0.5, "triton_fused": 0.8, "torch_eager (compiled)": None},
}  # fmt: skip


SUMMARY = {"tokens_per_second": 1e6, "peak_vram_mb": 2e4, "mfu_percent": 40.0, "val_bpb": 1.2}


def measured() -> dict:
    """A result as a run on a GPU leaves it, with one part that failed."""
    forward = {**ROW, "direction": "forward"}
    found = {
        "verify": {"rms_norm=triton_fused": {"verdict": "PASS"}, "rope=triton_fused": {"verdict": "FAIL"}},
        "bench": {"rms_norm=triton_fused": {"verdict": "FASTER", "rows": [forward, ROW]}},
        "train": {
            "arms": {"baseline": SUMMARY, "triton": {**SUMMARY, "tokens_per_second": 1.1e6}},
            "speedup": 1.1, "val_bpb_difference": -0.001, "left_out": {"rope=triton_fused": "failed verification"},
        },
        "capture": {"ranges": {"rms_norm backward": {"calls": 36.0, "us": 400.0}}, "kernels": [], "total_us": 9e4},
    }  # fmt: skip
    parts = {name: {"status": "done", "reason": "", "seconds": 1.0, "found": about} for name, about in found.items()}
    parts["counters"] = {"status": "failed", "reason": "ncu: no permission", "seconds": 1.0, "found": None}
    machine = {"name": "a GPU", "software": {"torch": "2.11.0"}, "cuda": "13.0"}
    return {"rehearsed": False, "started": "2026-01-01", "seconds": 500.0, "machine": machine, "parts": parts}


def test_an_archive_that_cannot_be_written_is_told_and_takes_nothing_with_it(tmp_path):
    setting = Setting(tmp_path / "nowhere", Root(tmp_path))
    assert evidence.pack(setting)[0].startswith("everything (")


def call(folder, result, records):
    """A folder as a call brings it back."""
    folder.mkdir()
    (folder / evidence.RESULT).write_text(json.dumps(result))
    ledger = Ledger(folder / "ledger.jsonl")
    for kind, key in records:
        verdict = {"verify": "PASS", "bench": "SAME"}.get(kind)
        about = {"target": "rope", "kernel": {"name": "k", "sha256": "a" * 64}} if verdict else {}
        ledger.append(
            kind, engine="cuda", device={"kind": "cuda", "key": key}, software={"key": "s"}, verdict=verdict, **about
        )
    with tarfile.open(folder / evidence.ARCHIVE, "w:gz") as archive:
        archive.add(ledger.path, evidence.LEDGER)
    return folder


def test_two_calls_become_one_result_and_their_records_are_kept_once(tmp_path):
    first, second = {**measured(), "device_key": "cuda-1"}, {**measured(), "device_key": "cuda-1"}
    second["parts"]["bench"]["found"] = {"rope=triton_fused": {"verdict": "SAME", "rows": []}}
    second["parts"]["verify"]["found"] = {"rms_norm=triton_fused": {"verdict": None, "reason": "out of time"}}
    second["parts"]["train"] = {"status": "failed", "reason": "out of time", "seconds": 1.0, "found": None}
    folders = [
        call(tmp_path / "1", first, [("verify", "cuda-1"), ("compile", "cuda-1")]),
        call(tmp_path / "2", second, [("bench", "cuda-1")]),
    ]
    records, result, count = evidence.ship(folders, Root(tmp_path))
    assert count == 2 and [record.kind for record in Ledger(records).records()] == ["verify", "bench"]
    assert evidence.ship(folders, Root(tmp_path))[2] == 0
    parts = json.loads(result.read_text())["parts"]
    assert {name: about["verdict"] for name, about in parts["bench"]["found"].items()} == {
        "rms_norm=triton_fused": "FASTER", "rope=triton_fused": "SAME",
    }  # fmt: skip
    assert parts["verify"]["found"]["rms_norm=triton_fused"]["verdict"] == "PASS"
    assert parts["train"]["status"] == "done" and json.loads(result.read_text())["seconds"] == 1000.0


def test_results_of_two_machines_or_of_a_rehearsal_are_not_merged():
    one, other = {**measured(), "device_key": "cuda-1"}, {**measured(), "device_key": "cuda-2"}
    with pytest.raises(ValueError, match="different machines"):
        evidence.merged([one, other])
    with pytest.raises(ValueError, match="rehearsal"):
        evidence.merged([{**one, "rehearsed": True}])


def test_a_folder_that_no_call_brought_back_is_bad_input(tmp_path):
    done = run(Setting(tmp_path, Root(tmp_path)), ["-m", "benchmarks.gpu.evidence", str(tmp_path / "nowhere")], 60.0)
    assert done.code == 2 and done.err.startswith("error: ") and len(done.err.splitlines()) == 1


def test_the_table_and_the_page_say_what_was_measured_and_what_was_not():
    result = measured()
    text = report.table(result)
    assert "rms_norm=triton_fused" in text and "FASTER" in text and "x1.50 [1.40, 1.60] 80%" in text
    assert "counters: failed: ncu: no permission" in text and "x1.100, val_bpb -0.0010" in text
    page = report.page(result)
    assert (
        "| rms_norm=triton_fused | 8x2048x512 | both | FASTER | 30.0 | torch_eager (compiled) 22.0 | 20.0 | 80% |"
        in page
    )
    assert "1.500 [1.400, 1.600]" in page and "1,100,000" in page and "- counters: ncu: no permission" in page
    assert "rms_norm backward | 36 | 400" in page and "rope=triton_fused: left out, failed verification" in page


def test_the_committed_page_is_what_the_command_writes():
    page = (CHECKOUT / report.PAGE).read_text(encoding="utf-8")
    assert page.startswith(report.HEAD)
    if report.NOTHING in page:
        assert page == report.page(None)


def test_the_worst_kernel_is_the_one_furthest_below_the_ceiling():
    near, far = {**ROW, "direction": "forward"}, {**ROW, "direction": "forward", "target": "rope"}
    far["share_of_ceiling"] = {"triton_fused": 0.3}
    assert counters.worst({"bench": {"a": {"rows": [near]}, "b": {"rows": [far, ROW]}}})["target"] == "rope"
    assert counters.worst({}) is None


def test_what_is_told_of_a_trace_is_microseconds_under_every_range():
    times = {"forward_ms": 0.02, "optimizer_ms": 0.0, "backward_ms": 0.015, "calls_per_step": 2.0}
    update = {"forward_ms": 0.0, "optimizer_ms": 0.5, "backward_ms": 0.0, "calls_per_step": 1.0}
    found = trace.told(
        {
            "steps": 2, "device_ms": 0.6, "kernels": [{"name": "gemm", "ms": 0.1}],
            "targets": [{"target": "rms_norm", **times}, {"target": "adamw_update", **update}],
        }
    )  # fmt: skip
    ranges = {"adamw_update": 500.0, "rms_norm": 20.0, "rms_norm backward": 15.0}
    assert {name: row["us"] for name, row in found["ranges"].items()} == pytest.approx(ranges)
    assert list(found["ranges"]) == list(ranges) and found["ranges"]["rms_norm"]["calls"] == 2.0
    assert found["kernels"][0]["us"] == pytest.approx(100.0) and found["total_us"] == pytest.approx(600.0)
