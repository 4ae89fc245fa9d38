"""benchmarks/gpu.sh without a GPU: rehearsed on the CPU.

The parts that need no measuring process are run here (the confined job, verify through the interpreter, training, the
profiler's capture); profile, bench and the GPU tests take the rest of it beyond a minute on two slow cores.
"""

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
from autoresearch_lab.paths import CHECKOUT
from benchmarks.gpu import evidence, report

pytestmark = pytest.mark.alone

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
    done = subprocess.run(
        [*command, "--parts", "confined,data,verify,train,capture,counters"],
        capture_output=True, text=True, timeout=400, env={**os.environ, **settings},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, json.loads((folder / "out" / evidence.RESULT).read_text())


@needs_triton
def test_a_rehearsal_goes_the_whole_way_and_claims_no_times(rehearsed):
    done, result = rehearsed
    parts = result["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "confined": "done", "data": "done", "verify": "done", "train": "done", "capture": "done", "counters": "failed",
    }, {name: part["reason"] for name, part in parts.items()}  # fmt: skip
    assert parts["confined"]["found"]["found"] == {"device": None, "torch_eager": None}
    assert parts["confined"]["found"]["without"] == ""
    assert parts["verify"]["found"]["relu_squared=triton_fused"]["verdict"] == "PASS"
    assert parts["train"]["found"]["rule"] == "verified, not benched yet"
    assert result["rehearsed"] and "REHEARSAL" in done.stdout
    assert (
        "ncu" in parts["counters"]["reason"]
        or "nothing" in parts["counters"]["reason"]
        or "benched" in parts["counters"]["reason"]
    )
    arms = parts["train"]["found"]["arms"]
    assert all(arm["tokens_per_second"] is None and arm["val_bpb"] > 0 for arm in arms.values())
    assert arms["triton"]["kernels"]["relu_squared"] == "triton_fused" and arms["baseline"]["kernels"] == {}
    assert parts["train"]["found"]["speedup"] is None
    assert abs(parts["train"]["found"]["val_bpb_difference"]) < 0.1
    ranges = parts["capture"]["found"]["ranges"]
    assert {"relu_squared", "relu_squared backward", "muon_update"} <= set(ranges)
    assert all(row["us"] is None and row["calls"] >= 1 for row in ranges.values())


@needs_triton
def test_a_rehearsal_makes_no_page(rehearsed):
    with pytest.raises(ValueError, match="a rehearsal measures nothing"):
        report.page(rehearsed[1])


@needs_triton
def test_what_comes_back_is_few_files_with_the_evidence_in_one(rehearsed):
    out = Path(rehearsed[1]["parts"]["data"]["found"]["folder"]).parents[1] / "out"
    assert {path.name for path in out.iterdir() if path.is_file()} == {"gpu.json", "evidence.tar.gz", "trace.json.gz"}
    with tarfile.open(out / "evidence.tar.gz") as archive:
        names = archive.getnames()
    assert "ledger.jsonl" in names and "work/train/triton/run.json" in names
    assert rehearsed[1]["left_out"] == [] and rehearsed[1]["device_key"] is None
