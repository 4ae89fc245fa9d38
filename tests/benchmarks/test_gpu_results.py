"""What comes back from benchmarks/gpu.sh, and how calls become one result."""

import json
from types import SimpleNamespace

import pytest
import torch

from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from benchmarks.gpu import counters, evidence, trace
from benchmarks.gpu.command import run
from benchmarks.gpu.setting import Setting

from .examples import ROW, call, measured


def test_an_archive_that_cannot_be_written_is_told_and_takes_nothing_with_it(tmp_path):
    setting = Setting(tmp_path / "nowhere", Root(tmp_path))
    assert evidence.pack(setting)[0].startswith("everything (")


def test_two_calls_become_one_result_and_their_records_are_kept_once(tmp_path):
    first, second = {**measured(), "device_key": "cuda-1"}, {**measured(), "device_key": "cuda-1"}
    second["parts"]["bench"]["found"] = {"rope=triton_fused": {"verdict": "SAME", "rows": []}}
    second["parts"]["verify"]["found"] = {"rms_norm=triton_fused": {"verdict": None, "reason": "out of time"}}
    second["parts"]["train"] = {"status": "failed", "reason": "out of time", "seconds": 1.0, "found": None}
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


def test_the_worst_kernel_is_the_one_furthest_below_the_ceiling():
    near, far = {**ROW, "direction": "forward"}, {**ROW, "direction": "forward", "target": "rope"}
    far["share_of_ceiling"] = {"triton_fused": 0.3}
    assert counters.worst({"bench": {"a": {"rows": [near]}, "b": {"rows": [far, ROW]}}})["target"] == "rope"
    assert counters.worst({}) is None


def test_what_ran_on_the_device_under_a_range_is_its_time():
    cpu, gpu = torch.autograd.DeviceType.CPU, torch.autograd.DeviceType.CUDA

    def event(name, device, us, annotation=False):
        return SimpleNamespace(
            name=name, device_type=device, device_time_total=us, cpu_time_total=999.0, is_user_annotation=annotation,
            cpu_children=[],
        )  # fmt: skip

    events = [
        *(event("rms_norm", cpu, 10.0) for _ in range(4)),
        event("rms_norm", gpu, 10.0, annotation=True),  # the profiler shows the range on the device as well
        event("rms_norm backward", cpu, 30.0),
        event("aten::mul", cpu, 20.0),
        event("vectorized_elementwise_kernel", gpu, 20.0),
    ]
    found = trace.attribute(events, on_gpu=True, steps=2)
    assert found["ranges"] == {"rms_norm": {"calls": 2.0, "us": 20.0}, "rms_norm backward": {"calls": 0.5, "us": 15.0}}
    assert found["kernels"] == [{"name": "vectorized_elementwise_kernel", "us": 10.0}] and found["total_us"] == 10.0


def test_readings_of_nsight_compute():
    text = (
        "==PROF== Connected\n"
        '"ID","Kernel Name","gpu__time_duration.sum","launch__registers_per_thread"\n'
        '"","","us","register/thread"\n'
        '"0","_normalise_rows","12.5","40"\n'
    )
    (row,) = counters.read_csv(text)
    assert row == {"kernel": "_normalise_rows", "duration": "12.5 us", "registers per thread": "40 register/thread"}
    assert counters.read_csv("==ERROR== ERR_NVGPUCTRPERM") == []
