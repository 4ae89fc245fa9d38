"""Proposals for the targets of a profile: where they are made, and how they are judged."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Subject
from autoresearch_lab.ledger import LedgerCorrupt
from autoresearch_lab.orchestrate import LEAST_GAIN, Candidate
from autoresearch_lab.pipeline import Pipeline
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.propose.attempts import Attempt, Budget, Proposer
from autoresearch_lab.propose.command import CannotStart
from autoresearch_lab.propose.loop import Judged, Tell, propose
from autoresearch_lab.propose.tuner import Tuner, declared
from autoresearch_lab.results.record import VerifyRecord
from autoresearch_lab.workspace import Workspace, create
from autoresearch_lab.workspace.folder import LOCK


def propose_all(pipeline: Pipeline, proposer: Proposer, budget: Budget, tell: Tell) -> list[Attempt]:
    """Let `proposer` write kernels for the profile's top targets, in a workspace each, where `Pipeline.run` finds them.

    Raises:
        LabError: the proposer cannot be started, or the ledger cannot be read.
        LabFailure: see `loop.propose`; what was done before it is in the ledger.
    """
    attempts: list[Attempt] = []
    for target, folder, start in places(pipeline, isinstance(proposer, Tuner)):
        try:
            if not (folder / LOCK).is_file():
                sets = pipeline.workloads(target.name)
                create(target, folder, pipeline.lab, sets, start, pipeline.profile)
            attempts += propose(folder, proposer, partial(_judge, pipeline), budget, pipeline.lab, tell)
        except (CannotStart, LedgerCorrupt):
            raise  # that concerns every target
        except LabError as error:  # what was done to this workspace is no reason to leave the others alone
            tell(f"{target.name}: {error}")
    return attempts


def places(pipeline: Pipeline, tuned: bool) -> list[tuple[Target, Path, Kernel | None]]:
    """(target, folder of its workspace, kernel that it starts from, None = the baseline) of the top targets with
    something to gain. tuned: one for every kernel of the catalogue that declares what can be tuned."""
    engine, profile = pipeline.lab.engine, pipeline.profile
    chosen = resolve("promoted", pipeline.catalog, pipeline.lab.context, pipeline.lab.root).chosen()
    found: list[tuple[Target, Path, Kernel | None]] = []
    for row in sorted(profile.targets, key=lambda row: row.rank):
        target = pipeline.catalog.get(row.target)
        saveable = row.share if row.saveable_ms is None else row.saveable_ms / profile.step_ms
        if target is None or row.target not in profile.workloads or saveable < LEAST_GAIN:
            continue
        if pipeline.replaced_by(target.name, chosen):
            continue
        kernels = target.with_role("candidate", engine.framework, engine.device)
        starts = [kernel for kernel in kernels if declared(kernel.path)] if tuned else [None]
        for start in starts:
            name = f"{target.name}-{start.name}-tuned" if start else f"{target.name}-proposed"
            found.append((target, pipeline.workspace_root / name, start))
        if len({target.name for target, *_ in found}) == pipeline.top_k:
            break
    return found


def _judge(pipeline: Pipeline, workspace: Workspace, of: type[Judged]) -> Judged:
    """The record of that kind that counts for the workspace's kernel; made where there is none.

    Raises:
        LabFailure: what was made does not count (the kernel was changed meanwhile, say).
    """
    target, kernel = workspace.target, workspace.kernel
    digest = pipeline.workloads(target.name).sha256
    subject = Subject(target, kernel, digest, pipeline.lab.context)
    if subject.latest(pipeline.lab.ledger, of) is None:
        step = pipeline.verify if of is VerifyRecord else pipeline.bench
        step(Candidate(0, target, kernel, workspace.folder, 0.0, 0.0, digest, subject))
    record = subject.latest(pipeline.lab.ledger, of)
    if record is None:
        raise LabFailure(f"{of.kind_name()}: its record does not count for the kernel in {workspace.folder}")
    return record
