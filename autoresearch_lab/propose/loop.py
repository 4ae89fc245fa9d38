"""Propose, judge, tell, again; and at the end the best kernel is the workspace's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autoresearch_lab.errors import LabFailure
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context, code_digest
from autoresearch_lab.paths import Root
from autoresearch_lab.propose.attempts import EVENT, Attempt, Budget, Proposer, best, history, keep, restore
from autoresearch_lab.records import Record
from autoresearch_lab.workspace import Workspace, open_workspace

# (workspace) -> its verify record, and the bench record where there is one.
Judge = Callable[[Workspace], tuple[Record, Record | None]]
Tell = Callable[[str], None]


def propose(
    folder: Path,
    proposer: Proposer,
    judge: Judge,
    budget: Budget,
    context: Context,
    root: Root,
    ledger: Ledger,
    tell: Tell = lambda line: None,
) -> list[Attempt]:
    """Let `proposer` change the kernel of the workspace in `folder` until the budget's attempts are used up or it has
    nothing more to propose; every kernel is judged and noted in the ledger. Returns all attempts.

    At the end the fastest one that is FASTER is the workspace's kernel; where none is, the last one stays.

    Raises:
        LabError: the folder is no workspace, or a fixed file in it was changed.
        LabFailure: the proposer changed the code that judges, or the ledger is not what the lab wrote.
    """
    workspace = open_workspace(folder, root, ledger)
    attempts = history(workspace, ledger)
    engine = context.engine
    baseline = workspace.target.baseline(engine.framework, engine.device).sha256
    known = {attempt.kernel_sha256 for attempt in attempts} | {baseline}
    while len(attempts) < budget.attempts:
        # First comes what nobody has judged: another kernel than the baseline that the workspace began with, or what a
        # run that was killed left behind.
        if workspace.kernel.sha256 in known:
            nothing = proposer(workspace, attempts, budget)
            _check_the_lab(context, ledger)
            workspace = open_workspace(folder, root, ledger)
            if nothing is not None:
                tell(f"{workspace.target.name}: {nothing}")
                break
            if workspace.kernel.sha256 in known:
                tell(f"{workspace.target.name}: nothing more is proposed")
                break
        known.add(workspace.kernel.sha256)
        attempt = _judged(workspace, judge, len(attempts) + 1)
        keep(workspace, attempt.number)
        attempts.append(attempt)
        _note(workspace, attempt, context, ledger)
        tell(f"{workspace.target.name}: attempt {attempt.number}: {_words(attempt)}")
    leader = best(attempts)
    if leader is not None:
        restore(workspace, leader.number)
    return attempts


def _judged(workspace: Workspace, judge: Judge, number: int) -> Attempt:
    digest = workspace.kernel.sha256
    try:
        verified, benched = judge(workspace)
    except LabFailure as failure:
        # The baseline failed, or the measurement cannot be believed: that is told, and the next kernel has its turn.
        return Attempt(number, digest, None, None, None, None, str(failure))
    last = benched or verified
    found = last.results or {}
    interval = found.get("interval") if benched else None
    return Attempt(
        number,
        digest,
        verified.verdict,
        benched.verdict if benched else None,
        found.get("ratio") if benched else None,
        (interval[0], interval[1]) if interval else None,
        str(found.get("reason") or ""),
    )


def _note(workspace: Workspace, attempt: Attempt, context: Context, ledger: Ledger) -> None:
    ledger.append(
        "note",
        **context.fields(),
        target=workspace.target.name,
        kernel={"name": workspace.kernel.name, "sha256": attempt.kernel_sha256},
        settings={"event": EVENT, "workspace_id": workspace.id},
        results=attempt.plain(),
    )


def _check_the_lab(context: Context, ledger: Ledger) -> None:
    """A proposer runs with the user's rights; what it must not touch is looked at after each of its turns."""
    code_digest.cache_clear()
    if code_digest(context.engine.package) != context.software["lab"]:
        raise LabFailure("the proposer changed the lab's own code; nothing is judged by it")
    if problems := ledger.problems():
        raise LabFailure(f"the ledger is not what the lab wrote: {problems[0]}")


def _words(attempt: Attempt) -> str:
    verdict = attempt.bench or attempt.verify or "not judged"
    speed = f", x{attempt.ratio:.3f}" if attempt.ratio else ""
    return f"{verdict}{speed}{': ' + attempt.reason if attempt.reason else ''}"
