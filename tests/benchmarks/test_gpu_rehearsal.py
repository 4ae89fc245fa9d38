"""benchmarks/gpu.sh without a GPU: rehearsed on the CPU, every part of it (65 to 80 s on two cores)."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from autoresearch_data.build import prepare
from autoresearch_data.local import LocalCorpus
from autoresearch_lab.campaign.gpu import archive, plan
from autoresearch_lab.campaign.gpu.result import GpuResult
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import CHECKOUT
from benchmarks.gpu import report

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory) -> tuple[subprocess.CompletedProcess, dict]:
    folder = tmp_path_factory.mktemp("gpu")
    stdlib = Path(sysconfig.get_path("stdlib"))
    names = ("argparse", "ast", "inspect", "typing", "tarfile", "turtle", "doctest")
    prepare(LocalCorpus("small", [stdlib / f"{name}.py" for name in names]), folder / "data" / "small")
    settings = {"AUTORESEARCH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    command = [
        str(CHECKOUT / "benchmarks" / "gpu.sh"),
        "--rehearse",
        "--dataset",
        "small",
        "--out",
        str(folder / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr
    return done, json.loads((folder / "out" / archive.RESULT).read_text())


@needs_triton
def test_a_rehearsal_goes_the_whole_way_and_claims_no_times(rehearsed):
    done, result = rehearsed
    parts = result["parts"]
    assert list(parts) == list(plan.ACTIONS)
    without_a_gpu = {"counters"}  # nothing was benched whose launches could be read, whether ncu is there or not
    assert {name for name, part in parts.items() if part["state"] != "done"} == without_a_gpu, {
        name: part["reason"] for name, part in parts.items()
    }
    assert parts["confined"]["found"]["found"] == {"device": None, "torch_eager": None}
    assert parts["confined"]["found"]["without"] == ""
    assert parts["verify"]["found"]["relu_squared=triton_fused"]["verdict"] == "PASS"
    # The Triton kernel is not timed there, so it is trained with unbenched.
    assert parts["train"]["found"]["rule"].startswith("verified; none was benched")
    assert result["rehearsed"] and "REHEARSAL" in done.stdout
    assert "ncu" in parts["counters"]["reason"] or "benched" in parts["counters"]["reason"]
    arms = parts["train"]["found"]["arms"]
    assert all(arm["tokens_per_second"] is None and arm["val_bpb"] > 0 for arm in arms.values())
    assert arms["triton"]["kernels"]["relu_squared"] == "triton_fused" and arms["baseline"]["kernels"] == {}
    assert parts["train"]["found"]["speedup"] is None
    assert abs(parts["train"]["found"]["val_bpb_difference"]) < 0.1
    ranges = parts["capture"]["found"]["ranges"]
    assert {"relu_squared", "relu_squared backward", "muon_update"} <= set(ranges)
    assert all(row["us"] is None and row["calls"] >= 1 for row in ranges.values())


@needs_triton
def test_a_rehearsal_profiles_and_benches_and_shows_no_figure_of_it(rehearsed):
    done, result = rehearsed
    profiled = result["parts"]["profile"]["found"]
    assert {name for name, value in profiled.items() if value is not None} == {"targets"}
    assert {"relu_squared", "muon_update"} <= {row["target"] for row in profiled["targets"]}
    assert all(value is None for row in profiled["targets"] for name, value in row.items() if name != "target")
    told = result["parts"]["bench"]["found"]["relu_squared=cpp_fused"]
    assert (told["verdict"], told["reason"], told["rows"]) == ("rehearsed", "", [])
    assert not {"FASTER", "SLOWER", "SAME", "AMBIGUOUS"} & set(done.stdout.split())


@needs_triton
def test_the_gpu_tests_are_found_and_counted_in_a_rehearsal(rehearsed):
    tested = rehearsed[1]["parts"]["tests"]["found"]
    assert tested["passed"] + tested["skipped"] > 20  # all skipped, but for a machine with a GPU
    assert f"tests: {tested['passed']} passed, {tested['failed']} failed" in rehearsed[0].stdout


@needs_triton
def test_a_rehearsal_makes_no_page(rehearsed):
    with pytest.raises(ValueError, match="a rehearsal measures nothing"):
        report.page(GpuResult.model_validate_json(json.dumps(rehearsed[1])))


@needs_triton
def test_what_comes_back_is_few_files_with_the_evidence_in_one(rehearsed):
    out = Path(rehearsed[1]["parts"]["data"]["found"]["folder"]).parents[1] / "out"
    assert {path.name for path in out.iterdir() if path.is_file()} == {"gpu.json", "evidence.tar.gz", "trace.json.gz"}
    with tarfile.open(out / "evidence.tar.gz") as archive:
        names = archive.getnames()
    assert "ledger.jsonl" in names and "work/train/triton/run.json" in names
    assert rehearsed[1]["left_out"] == [] and rehearsed[1]["device_key"] is None


@needs_triton
def test_a_rehearsal_is_recorded_in_its_own_ledger(rehearsed):
    out = Path(rehearsed[1]["parts"]["data"]["found"]["folder"]).parents[1] / "out"
    notes = Ledger(out / "lab" / "results" / "kernel_lab" / "ledger.jsonl").find(kind="note")
    (whole,) = [note for note in notes if note.settings.event == "campaign"]
    end = whole.results
    assert whole.settings.plan == "gpu" and whole.settings.rehearsed
    assert [step.step for step in end.steps] == list(plan.ACTIONS) and [one.step for one in end.failed] == ["counters"]
    assert sum(note.settings.event == "campaign-step" for note in notes) == len(plan.ACTIONS)
