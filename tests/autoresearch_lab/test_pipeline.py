"""From a profile to candidates: which targets take part, and which the trainer would no longer call."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from autoresearch_lab import pipeline as module
from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.orchestrate import CandidateState, state_of
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.pipeline import Pipeline
from autoresearch_lab.profile.schema import Profile
from autoresearch_lab.promote.install import install
from autoresearch_lab.status import StatusFile
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_lab.workspace import Workspace, create

LAYERS = 2
# target: (calls per step, of these within other targets), as the baseline trainer makes them.
CALLS = {
    "qk_prelude": (LAYERS, {}),
    "rms_norm": (4 * LAYERS + 2, {"qk_prelude": 2 * LAYERS, "residual_norm": LAYERS}),
    "rope": (2 * LAYERS, {"qk_prelude": 2 * LAYERS}),
    "relu_squared": (LAYERS, {"mlp": LAYERS}),
    "mlp": (LAYERS, {}),
    "attention_mask": (0, {}),
}


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """One of a profile in which all these targets take a tenth of the step; its workloads are not looked at."""
    rows = [
        SimpleNamespace(target=name, rank=rank, calls_per_step=float(calls), within=within, share=0.1, saveable_ms=None)
        for rank, (name, (calls, within)) in enumerate(CALLS.items(), start=1)
    ]
    made = object.__new__(Pipeline)
    made.profile = SimpleNamespace(targets=rows, workloads=CALLS, step_ms=20.0)
    made.catalog, made.workspace_root = load_catalog(Root()), Path("/nowhere")
    made.lab = Lab(Root(), "cpu")
    made.lab.context = SimpleNamespace(engine=made.lab.engine)
    monkeypatch.setattr(made, "workloads", lambda target: SimpleNamespace(sha256="0" * 64))
    made.top_k = 2
    return made


def kernel(folder: Path, target: str, code: str) -> Kernel:
    path = folder / f"{target}.py"
    path.write_text(code)
    return Kernel(target, "mine", "torch", ("cpu",), "candidate", "python", path)


def test_what_a_composite_kernel_does_itself_is_no_longer_called(pipeline: Pipeline, tmp_path: Path) -> None:
    chosen = {"qk_prelude": kernel(tmp_path, "qk_prelude", "def qk_prelude(q, k, cos, sin, eps): ...\n")}
    assert pipeline.replaced_by("rope", chosen) == ["qk_prelude=mine"]
    # The blocks' own norms are left, so a kernel for them is still worth something.
    assert pipeline.replaced_by("rms_norm", chosen) == []
    assert pipeline.replaced_by("relu_squared", chosen) == pipeline.replaced_by("attention_mask", chosen) == []
    chosen["rope"] = kernel(tmp_path, "rope", "def rope(x, cos, sin): ...\n")
    assert list(pipeline.called(chosen)) == ["qk_prelude"]


def test_a_composite_kernel_that_calls_the_parts_leaves_them_their_work(pipeline: Pipeline, tmp_path: Path) -> None:
    code = (
        'from autoresearch_cuda import kernel_files\nrope = kernel_files.part("rope")\n'
        "def qk_prelude(q, k, cos, sin, eps): ...\n"
    )
    mine = kernel(tmp_path, "qk_prelude", code)
    assert mine.parts == {"rope"}
    assert pipeline.catalog["qk_prelude"].parts_replaced(mine) == {"rms_norm"}
    assert pipeline.replaced_by("rope", {"qk_prelude": mine}) == []


def test_a_file_that_cannot_be_parsed_names_no_parts(tmp_path: Path) -> None:
    assert kernel(tmp_path, "rope", "def rope(:\n").parts == frozenset()


def test_only_targets_with_kernels_take_a_place_among_the_top(pipeline: Pipeline) -> None:
    target = pipeline.catalog["qk_prelude"]
    without = tuple(one for one in target.kernels if one.role != "candidate")
    pipeline.catalog = {**pipeline.catalog, "qk_prelude": replace(target, kernels=without)}
    assert {candidate.target.name for candidate in pipeline.candidates()} == {"rms_norm", "rope"}


def test_a_workspaces_kernel_is_known_once_it_is_promoted(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promotion copies it into the catalogue; the selection in use then names it."""
    shutil.copytree(CHECKOUT / "kernels" / "rms_norm", tmp_path / "kernels" / "rms_norm")
    pipeline.lab.root = Root(tmp_path)
    pipeline.catalog = load_catalog(pipeline.lab.root)
    folder = tmp_path / "workspaces" / "mine"
    folder.mkdir(parents=True)
    mine = kernel(folder, "rms_norm", "def rms_norm(x, eps): ...\n")
    candidate = SimpleNamespace(target=pipeline.catalog["rms_norm"], kernel=mine)

    def promote(target, kernel, lab, unattended):
        assert unattended  # and the record says so
        for path, content in install(kernel, target, "mine")[1].items():
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    monkeypatch.setattr(module, "promote", promote)
    pipeline.promote(candidate)
    assert pipeline.catalog["rms_norm"].kernel("mine", "torch").sha256 == mine.sha256


def test_workspaces_that_cannot_be_used_stop_nothing(
    pipeline: Pipeline, opened: tuple[Workspace, Ledger], context: Context, root: Root, captured: WorkloadSet
) -> None:
    """The candidate of the catalogue gets a workspace beside its spoilt one, a changed kernel is found, and the MLX
    engine's is none of this run's."""
    target, (mine, ledger), said = pipeline.catalog["rms_norm"], opened, []
    catalogued = target.with_role("candidate", "torch", "cpu")[0]
    (mine.folder / "kernel.py").write_text("def rms_norm(x, eps): ...\n")
    spoilt = root.workspaces / f"rms_norm-{catalogued.name}"
    create(target, spoilt, Lab.of(context, root, ledger), captured, catalogued)
    (spoilt / "oracle.py").write_text("# changed")
    apple = create(
        target, root.workspaces / "apple", Lab.of(replace(context, engine=ENGINES["mlx"]), root, ledger), captured
    )
    (apple.folder / "kernel.py").write_text("def rms_norm(x, eps): return x\n")
    pipeline.lab, pipeline.workspace_root = Lab.of(context, root, ledger), root.workspaces
    pipeline.on_remark = said.append
    found = {c.label: c.workspace.name for c in pipeline.candidates() if c.target.name == "rms_norm"}
    assert found[f"rms_norm={catalogued.name}"] == f"rms_norm-{catalogued.name}-2"
    assert found["rms_norm=workspace:one"] == "one" and "rms_norm=workspace:apple" not in found
    assert len(said) == 1 and said[0].startswith("left aside: ") and str(spoilt / "oracle.py") in said[0]


def test_a_workspaces_kernel_that_goes_beyond_its_diet_is_known_by_what_it_does_unless_a_person_allowed_it(
    pipeline: Pipeline, opened: tuple[Workspace, Ledger], context: Context, root: Root
) -> None:
    (mine, ledger), said = opened, []
    (mine.folder / "kernel.py").write_text("import os\n\n\ndef rms_norm(x, eps): return x\n")
    pipeline.lab, pipeline.workspace_root = Lab.of(context, root, ledger), root.workspaces
    pipeline.on_remark = said.append

    def beyond() -> dict[str, tuple[str, ...]]:
        return {candidate.label: candidate.beyond_diet for candidate in pipeline.candidates()}

    found = beyond()
    assert found.pop("rms_norm=workspace:one") == (
        "kernel.py line 1: imports os; a kernel needs its framework, math and this project's helpers",
    )
    assert found and not any(found.values()) and said == []
    pipeline.may_go_beyond_diet = frozenset({"rms_norm=workspace:one", "rope=misspelt"})
    assert not any(beyond().values())
    assert said == ["--allow-beyond-diet rope=misspelt: there is no such candidate"]


def test_a_failure_is_noted_so_that_the_next_run_knows_it(
    pipeline: Pipeline, context: Context, root: Root, captured: WorkloadSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.lab = Lab.of(context, root)
    pipeline.profile.id = None
    monkeypatch.setattr(pipeline, "workloads", lambda target: captured)
    candidate = pipeline.candidates()[0]
    pipeline.failed(candidate, "extract", "of\n  two lines")
    state = state_of(candidate, pipeline.lab.ledger, {}, {}, opened=False)
    assert state == CandidateState("extract", "extract failed: of two lines", failed=True)


def test_a_profile_of_another_engine_says_which(context: Context, root: Root) -> None:
    profile = Profile.model_construct(engine="mlx")
    with pytest.raises(LabError, match="with engine mlx, not cpu; use: kernel-lab --engine mlx orchestrate"):
        Pipeline(profile, root.workspaces, Lab.of(context, root, Ledger(root.ledger)), 1)


def test_every_baseline_composite_calls_all_its_parts() -> None:
    for target in load_catalog(Root()).values():
        assert not target.parts_replaced(target.baseline("torch", "cpu")), target.name


def test_those_who_watch_hear_where_all_candidates_stand_when_a_step_begins(monkeypatch):
    made, said = object.__new__(Pipeline), []
    made.status, made.executor = StatusFile("orchestrate"), None
    made.most_finalists, made.winners_together = None, False
    one, two = SimpleNamespace(label="rope=one"), SimpleNamespace(label="rope=two")
    monkeypatch.setattr(Pipeline, "candidates", lambda self: [one, two])
    states = {"rope=one": CandidateState("verify", "none yet"), "rope=two": CandidateState(None, "SAME")}
    monkeypatch.setattr(Pipeline, "state", lambda self, candidate: states[candidate.label])

    def drive(candidates, steps, on_step, *others):
        on_step(one, "verify on node-a")

    monkeypatch.setattr(module, "drive", drive)
    made.run(lambda candidate, step: said.append(f"{step}: {candidate.label}"))
    assert said == ["verify on node-a: rope=one"]
    rows = {row.candidate: (row.step, row.reason, row.since is not None) for row in made.status.now.candidates}
    assert rows == {"rope=one": ("verify", "none yet", True), "rope=two": (None, "SAME", False)}


def test_what_the_bench_compiles_first_is_compiled_while_its_kernel_is_verified(
    pipeline: Pipeline, context: Context, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.lab, pipeline.profile.id, pipeline.on_progress = Lab.of(context, root), None, None
    candidate, begun, done = pipeline.candidates()[0], Event(), []

    def compile_ahead(*subject, **options):
        begun.set()
        raise LabFailure("no compiler")

    def verify(*subject, run_dir: Path, **options):
        assert begun.wait(10.0) and run_dir.is_dir()
        done.append(subject)

    monkeypatch.setattr(module, "compile_ahead", compile_ahead)
    monkeypatch.setattr(module, "verify", verify)
    pipeline.verify(candidate)
    assert done[0][0] is candidate.kernel and not list(root.runs.iterdir())
