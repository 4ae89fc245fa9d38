"""Verb `orchestrate`: a profile's candidates, all the way; or ideas for the trainer (`cli.research`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.bench.rule import BUDGET_SECONDS
from autoresearch_lab.catalog import find_target
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import LENGTH, PATH, Count, FiniteRange
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.cli.research import IDEAS, RESEARCH_OPTIONS, ResearchOptions, night
from autoresearch_lab.cli.subject import KernelWords
from autoresearch_lab.errors import LabError
from autoresearch_lab.orchestrate import ALLOW_OPTION, Candidate, CandidateState
from autoresearch_lab.paths import writable_folder
from autoresearch_lab.pipeline import Pipeline
from autoresearch_lab.profile import load
from autoresearch_lab.propose.attempts import Budget, Proposer
from autoresearch_lab.propose.command import Command
from autoresearch_lab.propose.targets import places, propose_all
from autoresearch_lab.propose.tuner import Tuner


@dataclass(frozen=True)
class OrchestrateOptions:
    """What `orchestrate` was asked for."""

    profile: Path | None
    workspace_root: Path | None
    top_k: int
    bench_seconds: float
    steps: int
    race_seconds: float
    together: bool
    dry_run: bool
    proposer: str | None
    proposals: int | None
    proposer_seconds: float | None
    executor: str
    ray_address: str | None
    allow_beyond_diet: tuple[str, ...]


def orchestrate(session: Session, **given: Any) -> VerbResult:
    own = ResearchOptions(**{each.name: given.pop(each.name) for each in fields(ResearchOptions)})
    asked = OrchestrateOptions(**given)
    if own.research is not None:
        if asked.profile or asked.proposer:
            raise LabError("orchestrate: --research is about the trainer: it takes no --profile and no --proposer")
        return night(session, own, asked.proposals, asked.proposer_seconds, asked.steps, asked.dry_run)
    if alone := [name for name, value in asdict(own).items() if value is not None]:
        raise LabError(f"orchestrate: --{alone[0].replace('_', '-')} needs --research")
    if asked.profile is None:
        raise LabError("orchestrate: give --profile FILE, or --research CMD")
    if asked.ray_address is not None and asked.executor != "ray":
        raise LabError("--ray-address needs --executor ray")
    measured = load(asked.profile.expanduser())
    folder = (asked.workspace_root or session.lab.root.workspaces).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise LabError(f"--workspace-root {folder} is a file")
    base = Settings.for_device(session.lab.engine.device)
    settings = replace(base, steps=asked.steps, race_seconds=asked.race_seconds)
    pipeline = Pipeline(measured, folder, session.lab, asked.top_k, asked.bench_seconds, settings)
    pipeline.winners_together = asked.together
    pipeline.may_go_beyond_diet = frozenset(_named(text, pipeline) for text in asked.allow_beyond_diet)
    say = session.say
    pipeline.on_remark, pipeline.status = say, session.status
    if asked.executor == "ray":
        pipeline.use_ray(asked.ray_address)
    author = _author(asked)
    if asked.dry_run:
        if author is not None:
            for target, place, _ in places(pipeline, isinstance(author, Tuner)):
                say(f"proposals for {target.name} in {place}")
        candidates = pipeline.candidates()
        return _outcome(candidates, {candidate.label: pipeline.state(candidate) for candidate in candidates}, plan=True)
    writable_folder(folder, "orchestrate")
    with progress(session.log, session.verb, session.status) as show:
        pipeline.on_progress = show
        if author is not None:
            budget = Budget(asked.proposals or Budget.attempts, asked.proposer_seconds or Budget.seconds)
            propose_all(pipeline, author, budget, say)
        candidates, states = pipeline.run(lambda candidate, step: say(f"{step}: {candidate.label}"))
    return _outcome(candidates, states, plan=False)


def _named(text: str, pipeline: Pipeline) -> str:
    """One kernel's name, as candidates are labelled. Raises LabError for what cannot be one."""
    words = KernelWords.parse(text)
    if words.target is None:
        raise LabError(f"{ALLOW_OPTION} {text}: name the kernel as the table does, TARGET=KERNEL")
    find_target(pipeline.catalog, words.target)
    return f"{words.target}={words.name}"


def _author(asked: OrchestrateOptions) -> Proposer | None:
    """Who writes kernels. Raises LabError for options that mean nothing."""
    if asked.proposer is None:
        if asked.proposals is not None or asked.proposer_seconds is not None:
            raise LabError("--proposals and --proposer-seconds need a --proposer, or --research")
        return None
    if not asked.proposer.strip():
        raise LabError("--proposer: name a command, or tuner")
    return Tuner() if asked.proposer == TUNER else Command(asked.proposer)


TUNER = "tuner"
# Where MLX runs on a CPU, for instance: its Metal kernels need an Apple GPU.
NO_CANDIDATES = (
    "no kernel of the profile's top targets, but baselines and library arms, runs on this device; "
    "open a workspace there (kernel-lab extract) and write one"
)


@dataclass(frozen=True)
class CandidateRow:
    """Where a candidate stands. next: the step that comes, None where it ended; reason: why. beyond_diet: what its
    source does beyond a kernel's diet that nobody allowed. verify, bench, ab: verdicts; records: {step: id}.
    predicted_gain: of the trainer's speed, None before the benchmark."""

    rank: int
    candidate: str
    kernel_sha256: str
    workspace: str
    next: str | None
    reason: str
    failed: bool
    beyond_diet: tuple[str, ...]
    verify: str | None
    bench: str | None
    ab: str | None
    records: dict[str, str]
    speedup: float | None
    predicted_gain: float | None

    @classmethod
    def of(cls, candidate: Candidate, state: CandidateState) -> CandidateRow:
        records = candidate.records
        verdicts = {kind: records[kind].verdict if kind in records else None for kind in ("verify", "bench", "ab")}
        return cls(
            rank=candidate.rank,
            candidate=candidate.label,
            kernel_sha256=candidate.kernel.sha256,
            workspace=str(candidate.workspace),
            next=state.step,
            reason=state.reason,
            failed=state.failed,
            beyond_diet=candidate.beyond_diet,
            records={kind: record.id for kind, record in records.items()},
            speedup=candidate.speedup,
            predicted_gain=candidate.predicted_gain if candidate.speedup else None,
            **verdicts,
        )

    def last(self, plan: bool) -> str:
        """The table's last cell: what is next and why, or how it ended."""
        if self.next is None or (self.failed and not plan):
            return self.reason
        return f"{self.next}: {'the last ' if self.failed else ''}{self.reason}"


def _outcome(candidates: list[Candidate], states: dict[str, CandidateState], plan: bool) -> VerbResult:
    rows = [CandidateRow.of(candidate, states[candidate.label]) for candidate in candidates]

    def render(console: Console) -> None:
        if not rows:
            console.print(f"nothing to try: {NO_CANDIDATES}")
            return
        # Names are what the next command is given, so they are folded and never cut.
        folded = (Column(name, overflow="fold") for name in ("candidate", "verify", "bench", "A/B"))
        table = Table("rank", *folded, "next" if plan else "ended with", box=None)
        for row in rows:
            cells = (str(cell or "-") for cell in (row.rank, row.candidate, row.verify, row.bench, row.ab))
            table.add_row(*map(Text, cells), Text(row.last(plan)))
        console.print(table)

    promoted = [row.candidate for row in rows if row.reason == "promoted"]
    data = {
        "plan": plan,
        "candidates": [asdict(row) for row in rows],
        "promoted": promoted,
        "remark": None if rows else NO_CANDIDATES,
    }
    return VerbResult(data, render, plan or (bool(promoted) and not any(row.failed for row in rows)))


_TOP = click.option(
    "--top-k", type=Count(min=1), default=8, show_default=True, help="Targets with kernels to consider."
)

COMMANDS = {
    "orchestrate": command(
        "orchestrate",
        orchestrate,
        "Take the kernels of a profile's top targets through verify, bench, A/B and promotion; or, with --research, "
        "somebody's ideas for the trainer through review and trial. Exit code 0 = something is promoted, "
        "or kept, and no step failed.",
        click.option("--profile", type=PATH, help="File of `profile`."),
        click.option("--workspace-root", type=PATH, help="Workspaces [default: workspaces]."),
        _TOP,
        click.option(
            "--bench-seconds",
            type=FiniteRange(min=1),
            default=BUDGET_SECONDS,
            show_default=True,
            help="What the benchmark of one kernel may take.",
        ),
        *LENGTH,
        click.option(
            "--together", is_flag=True, help="Try all winners of the benchmark in one A/B before single ones."
        ),
        click.option(
            ALLOW_OPTION,
            multiple=True,
            metavar="TARGET=KERNEL",
            help="Let this kernel into the trainer although its source goes beyond a kernel's diet "
            "(docs/verification.md). May be repeated.",
        ),
        click.option("--dry-run", is_flag=True, help="Print what would be done, and why, without doing it."),
        click.option(
            "--proposer",
            metavar="CMD",
            help="First let this shell command (a coding agent, say) write kernels for the top targets; "
            f"docs/proposer.md. '{TUNER}': the built-in one, for kernels that declare what can be tuned.",
        ),
        click.option(
            "--proposals",
            type=Count(min=1),
            help="Kernels to be judged per workspace, or ideas in all, those of earlier runs included.  "
            f"[default: {Budget.attempts}; ideas: {IDEAS}, with --hours any number]",
        ),
        click.option(
            "--proposer-seconds",
            type=FiniteRange(min=0.1),
            help="What the proposer may take for one kernel, or the researcher for an idea; its judging comes on top.  "
            f"[default: {Budget.seconds:g}]",
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
            "--ray-address",
            metavar="ADDR",
            help="Cluster of --executor ray: HOST:PORT, auto or local.  [default: $RAY_ADDRESS, else local]",
        ),
        *RESEARCH_OPTIONS,
    ),
}
