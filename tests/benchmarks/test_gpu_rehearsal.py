"""Both calls of benchmarks/gpu.sh without a GPU: rehearsed on the CPU, every part of them. What a failure in a part
costs the others is in test_gpu_calls.py."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from types import SimpleNamespace

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
def rehearsed(tmp_path_factory) -> dict[str, SimpleNamespace]:
    """What the first and the second call printed, and found, and the folder of both."""
    folder = tmp_path_factory.mktemp("gpu")
    stdlib = Path(sysconfig.get_path("stdlib"))
    names = ("argparse", "ast", "inspect", "typing", "tarfile", "turtle", "doctest")
    prepare(LocalCorpus("small", [stdlib / f"{name}.py" for name in names]), folder / "data" / "small")
    settings = {"AUTORESEARCH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    command = [str(CHECKOUT / "benchmarks" / "gpu.sh"), "--rehearse", "--dataset", "small", "--seconds", "900"]
    command += ["--out", str(folder / "out")]
    calls = {}
    for name in plan.CALLS:
        done = subprocess.run(
            [*command, "--parts", name], capture_output=True, text=True, timeout=900, env={**os.environ, **settings}
        )
        assert done.returncode == 0, done.stderr
        result = json.loads((folder / "out" / archive.RESULT).read_text())
        calls[name] = SimpleNamespace(done=done, result=result, parts=result["parts"], out=folder / "out")
    return calls


def unfinished(call) -> dict[str, str]:
    return {name: part["reason"] for name, part in call.parts.items() if part["state"] != "done"}


@needs_triton
def test_the_first_call_tries_every_part_and_the_second_does_the_rest(rehearsed):
    first, second = rehearsed["first"], rehearsed["second"]
    tried = first.parts["tries"]["found"]
    # Nothing was benched whose launches could be read, whether ncu is there or not.
    assert {name for name, end in tried.items() if end["state"] != "done"} == {"counters"}, tried
    assert unfinished(first) == {} and list(first.parts) == list(plan.EVERY_CALL)
    assert set(unfinished(second)) == {"counters"} and set(second.parts) == {*plan.ACTIONS, plan.TRIES}
    assert "ncu" in tried["counters"]["reason"] or "benched" in tried["counters"]["reason"]
    assert unfinished(second)["counters"].startswith("its first try failed: ")
    confined = first.parts["confined"]["found"]
    assert confined["found"] == {"device": None, "torch_eager": None} and confined["without"] == ""
    assert first.parts["verify"]["found"]["relu_squared=triton_fused"]["verdict"] == "PASS"
    known = second.parts["verify"]["found"]["relu_squared=triton_fused"]
    assert (known["verdict"], known["reason"]) == ("PASS", "known from an earlier call")


@needs_triton
def test_a_rehearsal_trains_and_claims_no_times(rehearsed):
    call = rehearsed["second"]
    assert call.result["rehearsed"] and "REHEARSAL" in call.done.stdout
    trained = call.parts["train"]["found"]
    # The Triton kernel is not timed there, so it is trained with unbenched.
    assert trained["rule"].startswith("verified; none was benched")
    arms = trained["arms"]
    assert all(arm["tokens_per_second"] is None and arm["val_bpb"] > 0 for arm in arms.values())
    assert arms["triton"]["kernels"]["relu_squared"] == "triton_fused" and arms["baseline"]["kernels"] == {}
    assert trained["speedup"] is None and abs(trained["val_bpb_difference"]) < 0.1
    ranges = call.parts["capture"]["found"]["ranges"]
    assert {"relu_squared", "relu_squared backward", "muon_update"} <= set(ranges)
    assert all(row["us"] is None and row["calls"] >= 1 for row in ranges.values())


@needs_triton
def test_a_rehearsal_profiles_and_benches_and_shows_no_figure_of_it(rehearsed):
    call = rehearsed["first"]
    profiled = call.parts["profile"]["found"]
    assert {name for name, value in profiled.items() if value is not None} == {"targets"}
    assert {"relu_squared", "muon_update"} <= {row["target"] for row in profiled["targets"]}
    assert all(value is None for row in profiled["targets"] for name, value in row.items() if name != "target")
    told = call.parts["bench"]["found"]["relu_squared=cpp_fused"]
    assert (told["verdict"], told["reason"], told["rows"]) == ("rehearsed", "", [])
    assert not {"FASTER", "SLOWER", "SAME", "AMBIGUOUS"} & set(call.done.stdout.split())


@needs_triton
def test_the_gpu_tests_are_found_and_counted_in_a_rehearsal(rehearsed):
    call = rehearsed["second"]
    tested, rows = (call.parts[name]["found"] for name in ("tests", "rows"))
    assert tested["passed"] + tested["skipped"] > 20  # all skipped, but for a machine with a GPU
    assert f"tests: {tested['passed']} passed, {tested['failed']} failed" in call.done.stdout
    assert rows["passed"] + rows["skipped"] == 4 and "2^31 elements: " in call.done.stdout


@needs_triton
def test_a_rehearsal_makes_no_page(rehearsed):
    with pytest.raises(ValueError, match="a rehearsal measures nothing"):
        report.page(GpuResult.model_validate_json(json.dumps(rehearsed["second"].result)))


@needs_triton
def test_what_comes_back_is_few_files_with_the_evidence_in_one(rehearsed):
    call = rehearsed["second"]
    files = {path.name for path in call.out.iterdir() if path.is_file()}
    assert files == {"gpu.json", "evidence.tar.gz", "trace.json.gz"}
    with tarfile.open(call.out / "evidence.tar.gz") as archive:
        names = archive.getnames()
    assert "ledger.jsonl" in names and "work/train/triton/run.json" in names
    assert call.result["left_out"] == [] and call.result["device_key"] is None


@needs_triton
def test_a_rehearsal_is_recorded_in_its_own_ledger(rehearsed):
    notes = Ledger(rehearsed["first"].out / "lab" / "results" / "kernel_lab" / "ledger.jsonl").find(kind="note")
    whole = [note for note in notes if note.settings.event == "campaign"]
    assert [[step.step for step in note.results.steps] for note in whole] == [
        list(call.parts) for call in rehearsed.values()
    ]
    assert all(note.settings.plan == "gpu" and note.settings.rehearsed for note in whole)
    steps = sum(note.settings.event == "campaign-step" for note in notes)
    assert steps == sum(len(call.parts) for call in rehearsed.values())
