"""From the engine's answer to evidence: workloads kept under their hash, one record, reuse of what is intact."""

from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from autoresearch_common.hashing import file_sha256
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.profile import ensure_workloads, load, save, take_profile
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.sandbox.parent import JobFailed

CEILINGS = {
    "copy_gb_s": [[1 << 20, 50.0]],
    "matmul_gflop_s": {"float32": 100.0, "bfloat16": 400.0},
    "patterns": {},
    "threads": 1,
}


def norm_workload():
    x = {"name": "x", "kind": "array", "dtype": "float32", "shape": [4, 8], "strides": [8, 1], "grad": True}
    return {
        "id": "rms_norm-1",
        "target": "rms_norm",
        "args": [x, {"name": "eps", "kind": "scalar", "value": 1e-6}],
        "phase": "forward",
        "calls_per_step": 2.0,
        "sample": {"file": "rms_norm.safetensors", "prefix": "rms_norm-1/"},
    }


class FakeEngine(Engine):
    """Answers jobs at once; `asked` are the jobs that were run."""

    asked: list = []
    value: list = [1.0]

    def perform(self, job, args, *, run_dir, limits=None, modules=(), variables=None, on_progress=None):
        self.asked.append((job, args))
        if job == "ceilings":
            return CEILINGS
        if args["preset"] == "broken":
            raise JobFailed("crash", "profile: ended by SIGSEGV")
        if args["preset"] == "unknown":
            raise JobFailed("bad_input", "profile: ConfigError: unknown", reason="unknown preset 'unknown'")
        samples = run_dir / "samples"
        samples.mkdir(parents=True)
        save_file({"rms_norm-1/x": np.full((4, 8), self.value[0], np.float32)}, samples / "rms_norm.safetensors")
        answer = {
            "device": "cpu",
            "dataset": {"name": "tiny", "fingerprint": "a" * 64},
            "selection": {name: {"name": k["name"], "sha256": k["sha256"]} for name, k in args["selection"].items()},
            "workloads": {"rms_norm": [norm_workload()]},
            "environment": {"threads": 1},
        }
        if not args["steps"]:
            return answer
        half = {"forward_ms": 1.0, "backward_ms": 1.0, "optimizer_ms": 0.0, "total_ms": 2.0, "self_ms": 2.0,
                "within": {}}  # fmt: skip
        times = {
            "steps": args["steps"],
            "step_ms": 10.0,
            "instrumented_step_ms": 10.1,
            "step_spread": 0.01,
            "tokens_per_step": 100,
            "tokens_per_second": 10_000.0,
            "attributed_ms": 2.0,
            "unattributed_ms": 8.1,
            "sum_ms": 10.1,
            "sum_deviation": 0.01,
            "elsewhere": [],
            "phases": {"forward": 5.0, "backward": 5.1},
            "targets": {"rms_norm": {**half, "calls_per_step": 2.0}, "rope": {**half, "calls_per_step": 0.0}},
        }
        return {**answer, "times": times}


@pytest.fixture
def lab(tmp_path):
    engine = FakeEngine("cpu", "torch", "cpu", "autoresearch_cuda", "torch", "cpu-nano")
    engine.asked.clear()
    engine.value[0] = 1.0
    context = Context(engine, {"kind": "cpu", "key": "cpu-1"}, {"python": "3", "key": "s1"})
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    root = Root(tmp_path)
    ledger, catalog = Ledger(root.ledger), load_catalog(root)
    made = Lab.of(context, root, ledger)
    return SimpleNamespace(lab=made, root=root, engine=engine, context=context, ledger=ledger, catalog=catalog)


def run(lab, preset="cpu-nano"):
    selection = resolve("baseline", lab.catalog, lab.context, lab.root)
    return take_profile(
        lab.lab,
        lab.catalog,
        preset=preset,
        dataset_folder=lab.root.path / "data" / "tiny",
        selection=selection,
        steps=5,
    )


def test_profile_becomes_a_record_and_the_file_names_it(lab, tmp_path):
    profile = run(lab)
    record = lab.ledger.latest(kind="profile")
    assert profile.id == record.id
    assert record.settings.preset == "cpu-nano" and record.results.step_ms == 10.0
    assert record.workloads["rms_norm"] == profile.workloads["rms_norm"]
    (artifact,) = record.artifacts
    kept = lab.root.path / artifact.path
    assert file_sha256(kept) == artifact.sha256
    assert load(kept).model_copy(update={"id": record.id}) == profile
    save(profile, tmp_path / "out.json")
    assert load(tmp_path / "out.json") == profile
    assert [row.target for row in profile.targets] == ["rms_norm"]  # rope was never called: nothing to rank
    assert not lab.ledger.problems()
    assert not [folder for folder in lab.root.runs.iterdir() if folder.name.startswith("profile")]


def test_the_job_gets_the_contracts_and_the_selection(lab):
    run(lab)
    job, args = lab.engine.asked[0]
    described = {"args": ["x", "eps"], "phase": "forward", "grads": ["x"], "scalars": ["eps"]}
    assert job == "profile" and args["targets"]["rms_norm"] == described
    assert args["selection"]["rms_norm"]["name"] == "torch_eager" and args["steps"] == 5


def test_same_training_same_workloads(lab):
    assert run(lab).workloads == run(lab).workloads
    assert len(list(lab.root.workloads.iterdir())) == 1


def test_another_rounding_of_the_same_calls_does_not_make_evidence_stale(lab):
    first = run(lab).workloads
    lab.engine.value[0] = 1.5
    assert run(lab).workloads == first
    lab.context.software["key"] = "s2"
    assert run(lab).workloads != first


def test_refused_request_leaves_nothing(lab):
    with pytest.raises(LabError, match="^unknown preset 'unknown'$"):
        run(lab, preset="unknown")
    assert lab.ledger.records() == []
    assert list(lab.root.runs.iterdir()) == []


def test_failed_run_is_a_failure_without_a_record(lab):
    with pytest.raises(JobFailed):
        run(lab, preset="broken")
    assert lab.ledger.records() == []


def test_profile_stands_where_ceilings_cannot_be_measured(lab, monkeypatch):
    def fail(*_, **__):
        raise JobFailed("timeout", "ceilings: no answer within 120 s")

    monkeypatch.setattr("autoresearch_lab.profile.run.ceilings", fail)
    profile = run(lab)
    assert profile.targets[0].floor_ms is None and profile.targets[0].total_ms == 2.0


def test_workloads_come_from_the_newest_intact_capture(lab):
    norm = lab.catalog["rms_norm"]
    profile = run(lab)
    jobs = len(lab.engine.asked)
    found = ensure_workloads(norm, lab.lab)
    assert found.sha256 == profile.workloads["rms_norm"].sha256
    assert ensure_workloads(norm, lab.lab, "cpu-nano", "tiny").sha256 == found.sha256
    assert len(lab.engine.asked) == jobs


def test_damaged_or_missing_workloads_are_captured_again(lab):
    norm = lab.catalog["rms_norm"]
    first = ensure_workloads(norm, lab.lab)
    assert lab.engine.asked[-1][1]["steps"] == 0
    assert lab.ledger.latest(kind="capture").settings.event == "workloads"
    first.sample_path.write_bytes(b"damaged")
    again = ensure_workloads(norm, lab.lab)
    assert again.sha256 == first.sha256
    assert len(lab.ledger.find(kind="capture")) == 2


def test_another_preset_or_device_needs_its_own_capture(lab):
    norm = lab.catalog["rms_norm"]
    ensure_workloads(norm, lab.lab)
    ensure_workloads(norm, lab.lab, "cpu-tiny")
    other = Context(lab.engine, {"kind": "cpu", "key": "cpu-2"}, lab.context.software)
    ensure_workloads(norm, Lab.of(other, lab.root, lab.ledger))
    assert [args["preset"] for job, args in lab.engine.asked] == ["cpu-nano", "cpu-tiny", "cpu-nano"]


def test_target_that_the_trainer_never_calls(lab):
    with pytest.raises(LabError, match="makes no call of target rope"):
        ensure_workloads(lab.catalog["rope"], lab.lab)
