"""Propose, judge, tell, again; and at the end the best kernel is the workspace's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from autoresearch_lab.diet import summary
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.format import times
from autoresearch_lab.lab import Lab
from autoresearch_lab.lookup import by_id, newest_id
from autoresearch_lab.machine import code_digest
from autoresearch_lab.propose.attempts import Attempt, Budget, Proposer, best, history, keep, restore, start_over
from autoresearch_lab.results.base import KernelId
from autoresearch_lab.results.note import AttemptSettings
from autoresearch_lab.results.record import AttemptRecord, BenchRecord, VerifyRecord
from autoresearch_lab.workspace import Workspace, open_workspace

# (workspace, "verify" or "bench") -> the record that counts for the workspace's kernel.
Judged = TypeVar("Judged", VerifyRecord, BenchRecord)


class Judge(Protocol):
    """The record of that class that counts for the workspace's kernel; made where there is none."""

    def __call__(self, workspace: Workspace, of: type[Judged]) -> Judged: ...


Tell = Callable[[str], None]


def propose(
    folder: Path,
    proposer: Proposer,
    judge: Judge,
    budget: Budget,
    lab: Lab,
    tell: Tell = lambda line: None,
) -> list[Attempt]:
    """Let `proposer` change the kernel of the workspace in `folder` until the budget's attempts are used up or it has
    nothing more to propose; every kernel is judged and noted in the ledger. Returns all attempts.

    At the end the fastest one that is FASTER is the workspace's kernel; where none is, the last one that came to a
    verdict, or the baseline. A kernel that nobody has judged yet stays where it is.

    Raises:
        LabError: the folder is no workspace, or a fixed file in it was changed.
        LabFailure: the proposer changed the code that judges, the ledger, or a kernel that was judged.
    """
    workspace = open_workspace(folder, lab)
    attempts = history(workspace, lab.ledger)
    engine = lab.context.engine
    baseline = workspace.target.baseline(engine.framework, engine.device).sha256
    known = {attempt.kernel_sha256 for attempt in attempts} | {baseline}
    while len(attempts) < budget.attempts:
        # First comes what nobody has judged: another kernel than the baseline that the workspace began with, or what a
        # run that was killed left behind.
        if workspace.kernel.sha256 in known:
            last = newest_id(lab.ledger)
            reason = proposer(workspace, attempts, budget)
            check_the_lab(lab, last)
            workspace = open_workspace(folder, lab)
            if reason is None and workspace.kernel.sha256 in known:
                reason = "nothing more is proposed"
            if reason is not None:
                tell(f"{workspace.target.name}: {reason}")
                break
        known.add(workspace.kernel.sha256)
        keep(workspace, len(attempts) + 1)
        attempt = _judged(workspace, judge, len(attempts) + 1)
        attempts.append(attempt)
        _note(workspace, attempt, lab)
        tell(f"{workspace.target.name}: attempt {attempt.number}: {_words(attempt)}")
    if workspace.kernel.sha256 in known:
        _settle(workspace, attempts)
    else:
        tell(f"{workspace.target.name}: the kernel in {folder} is not judged yet")
    return attempts


def _settle(workspace: Workspace, attempts: list[Attempt]) -> None:
    """Leave a kernel behind that those who come next can do something with."""
    judged = [attempt for attempt in attempts if attempt.verify == "FAIL" or attempt.bench is not None]
    chosen = best(attempts) or (judged[-1] if judged else None)
    if chosen is not None:
        restore(workspace, chosen)
    elif attempts:
        start_over(workspace)


def _judged(workspace: Workspace, judge: Judge, number: int) -> Attempt:
    digest = workspace.kernel.sha256
    verified: VerifyRecord | None = None
    benched: BenchRecord | None = None
    try:
        verified = judge(workspace, VerifyRecord)
        reason = verified.results.reason
        if verified.verdict == "PASS":
            benched = judge(workspace, BenchRecord)
            reason = benched.results.reason
            if benched.verdict == "FASTER" and verified.results.diet:
                reason = (
                    f"beyond a kernel's diet, so promoted only if a person allows it: {summary(verified.results.diet)}"
                )
    except (LabError, LabFailure) as failure:
        # The baseline failed, or the measurement cannot be believed: that is told, and the next kernel has its turn.
        reason = str(failure)
    return Attempt(
        number=number,
        kernel_sha256=digest,
        verify=verified.verdict if verified else None,
        bench=benched.verdict if benched else None,
        ratio=benched.results.ratio if benched else None,
        interval=benched.results.interval if benched else None,
        reason=reason,
    )


def _note(workspace: Workspace, attempt: Attempt, lab: Lab) -> None:
    lab.ledger.append(
        AttemptRecord,
        **lab.context.fields(),
        target=workspace.target.name,
        kernel=KernelId(name=workspace.kernel.name, sha256=attempt.kernel_sha256),
        settings=AttemptSettings(event="proposal", workspace_id=workspace.id),
        results=attempt,
    )


def check_the_lab(lab: Lab, last: str | None) -> None:
    """A proposer, or a researcher, runs with the user's rights. After each of its turns: is the code that judges what
    it was, and does the ledger still hold everything up to the record `last`, in order? Verdicts that it had the verbs
    add are welcome.
    """
    code_digest.cache_clear()
    if code_digest(lab.context.engine.package) != lab.context.software["lab"]:
        raise LabFailure("the command changed the lab's own code; nothing is judged by it")
    if problems := lab.ledger.problems():
        raise LabFailure(f"the ledger is not what the lab wrote: {problems[0]}")
    if last is not None and by_id(lab.ledger, last) is None:
        raise LabFailure("the ledger is not what the lab wrote: records at its end are gone")


def _words(attempt: Attempt) -> str:
    verdict = attempt.bench or attempt.verify or "not judged"
    if attempt.verify == "PASS" and attempt.bench is None:
        verdict = "PASS, not timed"
    speed = f", {times(attempt.ratio)}" if attempt.ratio else ""
    return f"{verdict}{speed}{': ' + attempt.reason if attempt.reason else ''}"
