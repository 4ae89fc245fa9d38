"""Verb `verify`; `bench` beside it, for they share a group."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.cli.bench import COMMANDS as _BENCH
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.errors import LabError
from autoresearch_lab.verify.run import verify
from autoresearch_lab.verify.table import render


def run(
    session: Session, *, workspace: Path | None, target: str | None, kernel: str | None, seed: int | None
) -> Outcome:
    if (workspace is None) == (target is None and kernel is None) or (target is None) != (kernel is None):
        raise LabError("verify: give --workspace DIR, or --target T and --kernel NAME")
    profile_id = None
    if workspace is not None:
        from autoresearch_lab.workspace import open_workspace

        opened = open_workspace(workspace, session.root, session.ledger)
        if opened.engine_name != session.engine.name:
            raise LabError(
                f"verify: {opened.folder} is for engine {opened.engine_name}; "
                f"use: kernel-lab --engine {opened.engine_name} verify"
            )
        subject, candidate, captured = opened.target, opened.kernel, opened.workloads
        profile_id = opened.profile_id
    else:
        from autoresearch_lab.profile import ensure_workloads

        subject = find_target(load_catalog(session.root), target or "")
        candidate = subject.kernel(kernel or "", session.engine.framework)
        if not candidate.runs_on(session.engine.framework, session.engine.device):
            raise LabError(f"verify: {target}/{kernel} does not run on {session.engine.device}")
        captured = ensure_workloads(subject, session.context, session.root, session.ledger)
    with progress(session.log) as show:
        record = verify(
            candidate,
            subject,
            captured,
            session.context,
            session.root,
            session.ledger,
            seed=seed,
            run_dir=session.root.runs / f"verify-{subject.name}-{secrets.token_hex(4)}",
            profile_id=profile_id,
            on_progress=show,
        )
    data: dict[str, Any] = {
        **(record.results or {}),
        "record": record.id,
        "target": subject.name,
        "kernel": candidate.plain(),
        "seed": (record.seeds or {}).get("verify"),
        "not_enforced": (record.settings or {}).get("not_enforced"),
    }
    return Outcome(data, lambda console: render(record, console), positive=record.verdict == "PASS")


_OPTIONS = (
    click.option("--workspace", type=click.Path(path_type=Path), help="Workspace whose kernel.py is verified."),
    click.option("--target", help="Target of a kernel in the catalogue."),
    click.option("--kernel", help="Name of that kernel."),
    click.option("--seed", type=click.IntRange(min=0), help="Repeat an earlier verification's cases [default: drawn]."),
)

_command = verb(run)
for _option in reversed(_OPTIONS):
    _command = _option(_command)

COMMANDS = {
    "verify": click.command("verify", help="Is the kernel right? Runs all checks; exit code 0 = PASS.")(_command),
    **_BENCH,
}
