"""Verbs `init` and `extract`: open a workspace for a target."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from autoresearch_lab import workloads
from autoresearch_lab.catalog import Kernel, Target, find_target, load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.options import PATH, Count, PresetName
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.engine import INTERPRETERS, lacks_gpu
from autoresearch_lab.errors import LabError
from autoresearch_lab.invocation import program
from autoresearch_lab.profile import ensure_workloads, load
from autoresearch_lab.workspace import Workspace, create
from autoresearch_lab.workspace.folder import require_free


def init(session: Session, *, target: str, workspace: Path, start: str | None, preset: str | None) -> VerbResult:
    found = find_target(load_catalog(session.lab.root), target)
    kernel = _start(found, start, session)
    require_free(workspace.expanduser())  # said before any long work
    with progress(session.log, session.verb) as show:
        captured = ensure_workloads(found, session.lab, preset=preset, on_progress=show)
    return _outcome(session, create(found, workspace, session.lab, captured, kernel))


def extract(session: Session, *, profile: Path, rank: int, workspace: Path, start: str | None) -> VerbResult:
    measured = load(profile.expanduser())
    row = measured.row(rank)
    found = find_target(load_catalog(session.lab.root), row.target)
    kernel = _start(found, start, session)
    require_free(workspace.expanduser())  # said before any long work
    reference = measured.workloads.get(row.target)
    if reference is None:
        raise LabError(f"extract: the profile {profile} names no workloads for {row.target}; run profile again")
    measured.require_engine(session.lab.engine.name, "extract")
    captured = workloads.load(session.lab.root.path / reference.path, expected=reference.sha256)
    return _outcome(session, create(found, workspace, session.lab, captured, kernel, profile=measured))


def _start(target: Target, name: str | None, session: Session) -> Kernel | None:
    """The kernel to start from; None = the baseline. One in Triton or Metal may be started from where its GPU is
    missing: `verify` can run it on the CPU.

    Raises:
        LabError: there is none of that name for this engine.
    """
    engine = session.lab.engine
    target.baseline(engine.framework, engine.device)
    if name is None:
        return None
    kernel = target.kernel(name, engine.framework)
    if not kernel.runs_on(engine.framework, engine.device) and kernel.language not in INTERPRETERS:
        raise LabError(f"kernel {target.name}={name} {kernel.obstacle(f'engine {engine.name}')}")
    return kernel


def _outcome(session: Session, workspace: Workspace) -> VerbResult:
    def render(console: Console) -> None:
        place = f" on {workspace.engine_name}: {workspace.folder}"
        console.print(Text.assemble((workspace.target.name, "bold"), place), soft_wrap=True)
        console.print("  change  kernel.py")
        console.print("  read    README.md")
        prefix = program(session.lab.root.path, workspace.engine_name)
        without_gpu = lacks_gpu(workspace.kernel.language)
        for name in ("verify",) if without_gpu else ("verify", "bench", "ab"):
            console.print(f"  {name:7} {prefix} {name} {workspace.folder}", soft_wrap=True)
        if without_gpu:
            language = workspace.kernel.language.capitalize()
            console.print(f"  {language} kernels are verified on the CPU here; the rest takes their GPU", style="dim")

    return VerbResult(workspace.plain(), render)


_WORKSPACE = click.option("--workspace", type=PATH, required=True, help="Folder to make; new or empty.")
_FROM = click.option("--from", "start", help="Kernel of the catalogue to start from [default: the baseline].")

COMMANDS = {
    "init": command(
        "init",
        init,
        "Open a workspace for a target, with calls captured from the trainer.",
        click.option(
            "--preset", type=PresetName(), help="Capture the calls of this preset [default: what is captured already]."
        ),
        _FROM,
        _WORKSPACE,
        click.option("--target", required=True, help="See list-targets."),
    ),
    "extract": command(
        "extract",
        extract,
        "Open a workspace for the target of that rank in a profile.",
        _FROM,
        _WORKSPACE,
        click.option("--rank", type=Count(min=1), default=1, show_default=True, help="Rank in the profile."),
        click.option("--profile", type=PATH, required=True, help="File of `profile`."),
    ),
}
