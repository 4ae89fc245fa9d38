"""Verb `orchestrate`: a profile's candidates, all the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.cli.integration import LENGTH
from autoresearch_lab.cli.numbers import FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.errors import LabError
from autoresearch_lab.orchestrate import Candidate, State
from autoresearch_lab.paths import writable_folder
from autoresearch_lab.pipeline import Pipeline
from autoresearch_lab.profile import load
from autoresearch_lab.propose.attempts import Budget, Proposer
from autoresearch_lab.propose.command import Command
from autoresearch_lab.propose.targets import places, propose_all
from autoresearch_lab.propose.tuner import Tuner


def orchestrate(
    session: Session,
    *,
    profile: Path,
    workspace_root: Path | None,
    top_k: int,
    bench_seconds: float,
    steps: int,
    race_seconds: float,
    together: bool,
    dry_run: bool,
    proposer: str | None,
    proposals: int | None,
    proposer_seconds: float | None,
    executor: str,
    ray_address: str | None,
) -> Outcome:
    if ray_address is not None and executor != "ray":
        raise LabError("--ray-address needs --executor ray")
    measured = load(profile.expanduser())
    folder = (workspace_root or session.lab.root.workspaces).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise LabError(f"--workspace-root {folder} is a file")
    settings = replace(Settings.for_device(session.lab.engine.device), steps=steps, race_seconds=race_seconds)
    pipeline = Pipeline(measured, folder, session.lab, top_k, bench_seconds, settings)
    pipeline.winners_together = together
    say = lambda line: session.log.print(escape(line), soft_wrap=True)  # noqa: E731
    pipeline.on_remark = say
    if executor == "ray":
        pipeline.use_ray(ray_address)
    author = _author(proposer, proposals, proposer_seconds)
    if dry_run:
        if author is not None:
            for target, place, _ in places(pipeline, isinstance(author, Tuner)):
                say(f"proposals for {target.name} in {place}")
        candidates = pipeline.candidates()
        return _outcome(candidates, {candidate.label: pipeline.state(candidate) for candidate in candidates}, plan=True)
    writable_folder(folder, "orchestrate")
    with progress(session.log) as show:
        pipeline.on_progress = show
        if author is not None:
            budget = Budget(proposals or Budget.attempts, proposer_seconds or Budget.seconds)
            propose_all(pipeline, author, budget, say)
        candidates, states = pipeline.run(lambda candidate, step: say(f"{step}: {candidate.label}"))
    return _outcome(candidates, states, plan=False)


def _author(proposer: str | None, proposals: int | None, seconds: float | None) -> Proposer | None:
    """Who writes kernels. Raises LabError for options that mean nothing."""
    if proposer is None:
        if proposals is not None or seconds is not None:
            raise LabError("--proposals and --proposer-seconds need a --proposer")
        return None
    if not proposer.strip():
        raise LabError("--proposer: name a command, or tuner")
    return Tuner() if proposer == TUNER else Command(proposer)


TUNER = "tuner"
# Where MLX runs on a CPU, for instance: its Metal kernels need an Apple GPU.
NO_CANDIDATES = (
    "no kernel of the profile's top targets, but baselines and library arms, runs on this device; "
    "open a workspace there (kernel-lab extract) and write one"
)


def _outcome(candidates: list[Candidate], states: dict[str, State], plan: bool) -> Outcome:
    rows = [_row(candidate, states[candidate.label]) for candidate in candidates]

    def render(console: Console) -> None:
        if not rows:
            console.print(f"nothing to try: {NO_CANDIDATES}")
            return
        # Names are what the next command is given, so they are folded and never cut.
        folded = (Column(name, overflow="fold") for name in ("candidate", "verify", "bench", "A/B"))
        table = Table("rank", *folded, "next" if plan else "ended with", box=None)
        for row in rows:
            cells = (str(row[key] or "-") for key in ("rank", "candidate", "verify", "bench", "ab"))
            table.add_row(*map(escape, cells), escape(_last(row, plan)))
        console.print(table)

    promoted = [row["candidate"] for row in rows if row["reason"] == "promoted"]
    data = {"plan": plan, "candidates": rows, "promoted": promoted, "remark": None if rows else NO_CANDIDATES}
    return Outcome(data, render, plan or (bool(promoted) and not any(row["failed"] for row in rows)))


def _last(row: dict[str, Any], plan: bool) -> str:
    """The table's last cell: what is next and why, or how it ended."""
    if row["next"] is None or (row["failed"] and not plan):
        return row["reason"]
    return f"{row['next']}: {'the last ' if row['failed'] else ''}{row['reason']}"


def _row(candidate: Candidate, state: State) -> dict[str, Any]:
    records = candidate.records
    return {
        "rank": candidate.rank,
        "candidate": candidate.label,
        "kernel_sha256": candidate.kernel.sha256,
        "workspace": str(candidate.workspace),
        "next": state.step,
        "reason": state.reason,
        "failed": state.failed,
        **{kind: records[kind].verdict if kind in records else None for kind in ("verify", "bench", "ab")},
        "records": {kind: record.id for kind, record in records.items()},
        "speedup": candidate.speedup,
        "predicted_gain": candidate.predicted_gain if candidate.speedup else None,
    }


_orchestrate = verb(orchestrate)
for _option in (
    click.option(
        "--ray-address",
        metavar="ADDR",
        help="Cluster of --executor ray: HOST:PORT, auto or local.  [default: $RAY_ADDRESS, else local]",
    ),
    click.option(
        "--executor",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where kernels are verified and timed: here, or on a cluster's machines of the same kind; "
        "docs/cluster.md.",
    ),
    click.option(
        "--proposer-seconds",
        type=FiniteRange(min=0.1),
        help=f"What the proposer may take for one kernel; its judging comes on top.  [default: {Budget.seconds:g}]",
    ),
    click.option(
        "--proposals",
        type=click.IntRange(min=1),
        help=f"Kernels to be judged per workspace, those of earlier runs included.  [default: {Budget.attempts}]",
    ),
    click.option(
        "--proposer",
        metavar="CMD",
        help="First let this shell command (a coding agent, say) write kernels for the top targets; docs/proposer.md. "
        f"'{TUNER}': the built-in one, for kernels that declare what can be tuned.",
    ),
    click.option("--dry-run", is_flag=True, help="Print what would be done, and why, without doing it."),
    click.option("--together", is_flag=True, help="Try all winners of the benchmark in one A/B before single ones."),
    *LENGTH,
    click.option("--bench-seconds", type=FiniteRange(min=1), default=30.0, show_default=True),
    click.option(
        "--top-k", type=click.IntRange(min=1), default=8, show_default=True, help="Targets with kernels to consider."
    ),
    click.option("--workspace-root", type=click.Path(path_type=Path), help="Workspaces [default: workspaces]."),
    click.option("--profile", type=click.Path(path_type=Path), required=True, help="File of `profile`."),
):
    _orchestrate = _option(_orchestrate)

COMMANDS = {
    "orchestrate": click.command(
        "orchestrate", help="Take the kernels of a profile's top targets through verify, bench, A/B and promotion."
    )(_orchestrate),
}
