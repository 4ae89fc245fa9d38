"""The gate: every kernel that differs between two versions, verified and timed against what it was; and the step."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autoresearch_lab.bench.inputs import job_workloads, weights, write_inputs
from autoresearch_lab.bench.measure import Arm, TimingBed
from autoresearch_lab.bench.rule import AMBIGUOUS, BUDGET_SECONDS, Rule
from autoresearch_lab.bench.session import BenchSession
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Subject
from autoresearch_lab.gate.race import FAIL, Compared, believed
from autoresearch_lab.gate.step import STEP_SECONDS, StepRace
from autoresearch_lab.gate.versions import ChangedKernel, catalog_of, changed
from autoresearch_lab.jobs import about, run_folder, running
from autoresearch_lab.lab import Lab
from autoresearch_lab.profile import ensure_workloads
from autoresearch_lab.results.bench import BenchResults
from autoresearch_lab.results.record import VerifyRecord
from autoresearch_lab.sandbox.confine import discard_scratch
from autoresearch_lab.verify.run import verify
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Report


@dataclass(frozen=True)
class GateAnswer:
    """rows: what was compared; left_out: {kernel that differs too: why it does not run here}."""

    title: str
    rows: list[Compared]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def passes(self) -> bool:
        return all(row.passes for row in self.rows)


def gate(
    lab: Lab,
    base: str,
    head: str | None,
    *,
    step: StepRace | None = None,
    budget_seconds: float | None = None,
    rule: Rule | None = None,
    on_progress: Report | None = None,
) -> GateAnswer:
    """Hold the kernels of `head`, a commit or (None) the working tree, against those of the commit `base`, and the
    training step where that differs.

    A kernel is verified first, by head's contract; one that fails is not timed. What differs beside the kernels, such
    as the engine's code that they call, is today's on both sides; in the training step each side has its own.

    step: of the same two; None: it is left aside. budget_seconds: for each row.

    Raises:
        LabError: git knows no such commit, a target's calls cannot be captured, or there is nothing to train.
    """
    rule = rule or Rule()
    with run_folder(lab.root, "gate") as folder:
        old = catalog_of(base, lab.root, folder / "base")
        new = load_catalog(lab.root) if head is None else catalog_of(head, lab.root, folder / "head")
        found, left_out = changed(old, new, lab.engine)
        step = step if step is not None and step.differs(old, new) else None
        if step is not None:
            step.check_dataset()
        rows = []
        for one in found:
            captured = ensure_workloads(one.target, lab, on_progress=on_progress)
            rows.append(judge(one, captured, lab, rule, budget_seconds or BUDGET_SECONDS, on_progress))
        if step is not None:
            rows.append(step.run(folder, rule, budget_seconds or STEP_SECONDS, on_progress))
    return GateAnswer(f"{base} against {head or 'the working tree'}", rows, left_out)


def judge(
    one: ChangedKernel, captured: WorkloadSet, lab: Lab, rule: Rule, budget_seconds: float, report: Report | None
) -> Compared:
    """One row. What breaks off while head's kernel is verified or timed is a FAIL with the reason."""
    tell = about(f"gate {one.name}", report)
    with running(lab.root.runs / f"gate-{one.target.name}-{secrets.token_hex(4)}") as folder:
        try:
            checked = _verified(one, captured, lab, folder / "verify", report)
            if checked.verdict != "PASS":
                return Compared(one.name, FAIL, f"verify: {checked.results.reason}")
            if one.base is None:
                return Compared(one.name, AMBIGUOUS, f"it passes verify; {one.without}")
            return _timed(one, captured, lab, folder, rule, budget_seconds, tell)
        except (LabError, LabFailure) as error:
            return Compared(one.name, FAIL, str(error))


def _verified(one: ChangedKernel, captured: WorkloadSet, lab: Lab, folder: Path, report: Report | None) -> VerifyRecord:
    known = Subject(one.target, one.head, captured.sha256, lab.context).latest(lab.ledger, VerifyRecord)
    return known or verify(one.head, one.target, captured, lab, run_dir=folder, on_progress=report)


def _timed(
    one: ChangedKernel,
    captured: WorkloadSet,
    lab: Lab,
    folder: Path,
    rule: Rule,
    budget_seconds: float,
    tell: Callable[..., None] | None,
) -> Compared:
    assert one.base is not None
    rng = np.random.default_rng(secrets.randbits(31))
    inputs = folder / "inputs.safetensors"
    calls = job_workloads(one.target, captured, rng)
    write_inputs(inputs, one.target, captured, rng)
    bed = TimingBed(lab.context.engine, one.target, calls, inputs, folder / "process")
    arms = [Arm("baseline", one.base), Arm("control", one.base), Arm("candidate", one.head)]
    try:
        outcome = BenchSession(bed, arms, weights(captured), tell).run(rule, budget_seconds, rng)
    finally:
        inputs.unlink(missing_ok=True)
        discard_scratch(folder / "process")
    found = outcome.results
    whole = found.directions[found.direction]
    seconds = whole.baseline_ms / 1e3, whole.candidate_ms / 1e3
    row = Compared(one.name, outcome.verdict, found.reason, found.ratio, found.interval, *seconds, found.foreign_load)
    return believed(row, rule, disturbed=_unclean(found) > rule.unclean)


def _unclean(found: BenchResults) -> float:
    """Share of samples without one undisturbed call."""
    return float(np.mean([arm.unclean for arm in found.disturbed.values()]))
