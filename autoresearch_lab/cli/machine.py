"""Verbs `doctor` and `list-targets`: what this machine can do, and what there is to work on."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.cli.app import Outcome, Session, verb
from autoresearch_lab.doctor import Finding, examine, usable
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.ledger import Ledger

MARKS = {"ok": "[green]ok[/green]", "missing": "[yellow]no[/yellow]", "problem": "[red]bad[/red]"}


def doctor(session: Session) -> Outcome:
    findings = examine(session.lab.root, session.lab.ledger)
    data = {"usable": usable(findings), "findings": [finding.plain() for finding in findings]}
    return Outcome(data, lambda console: _show_findings(findings, console), positive=data["usable"])


def _show_findings(findings: list[Finding], console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = ""
    for finding in findings:
        remedy = f"\n[cyan]-> {escape(finding.remedy)}[/cyan]" if finding.remedy else ""
        shown = finding.group if finding.group != group else ""
        group = finding.group
        table.add_row(shown, finding.name, MARKS[finding.state], escape(finding.detail) + remedy)
    console.print(table)
    able = [finding.name for finding in findings if finding.group == "engine" and finding.state == "ok"]
    console.print()
    if usable(findings):
        console.print(f"This machine can run: {', '.join(able)}.")
    else:
        console.print("[red]This machine cannot run the lab yet; see the lines above.[/red]")


def list_targets(session: Session) -> Outcome:
    catalog, ledger = load_catalog(session.lab.root), session.lab.ledger
    rows = [_describe(target, ledger) for target in catalog.values()]
    return Outcome({"targets": rows}, lambda console: _show_targets(rows, console))


def _describe(target: Target, ledger: Ledger) -> dict[str, Any]:
    return {
        "target": target.name,
        "summary": target.contract.summary,
        "signature": target.contract.signature,
        "phase": target.contract.phase,
        "replaces": target.contract.replaces,
        "kernels": [_describe_kernel(kernel, ledger) for kernel in target.kernels],
    }


def _describe_kernel(kernel: Kernel, ledger: Ledger) -> dict[str, Any]:
    """A kernel and the newest verdict of each kind that the ledger has on its present content, on any device."""
    records = ledger.find(target=kernel.target, kernel_sha256=kernel.sha256)
    return {
        "name": kernel.name,
        "role": kernel.role,
        "language": kernel.language,
        "engines": [e.name for e in ENGINES.values() if kernel.made_for(e.framework, e.device)],
        "sha256": kernel.sha256,
        "summary": kernel.summary,
        "evidence": {record.kind: record.verdict for record in records if record.verdict is not None},
    }


def _show_targets(rows: list[dict[str, Any]], console: Console) -> None:
    kernels = [kernel for row in rows for kernel in row["kernels"]]
    widths = {key: max([len(kernel[key]) for kernel in kernels] + [1]) for key in ("name", "role")}
    for row in rows:
        console.print(f"[bold]{row['target']}[/bold]  {escape(row['summary'])}", soft_wrap=True)
        console.print(f"  [dim]{escape(row['signature'])}[/dim]", soft_wrap=True)
        for kernel in row["kernels"]:
            name, role = kernel["name"].ljust(widths["name"]), kernel["role"].ljust(widths["role"])
            evidence = ", ".join(kernel["evidence"].values()) or "-"
            console.print(f"    {name}  {role}  {' '.join(kernel['engines']):<9} {evidence}", soft_wrap=True)
    summary = f"\n{len(rows)} targets, {len(kernels)} kernels. Behind a kernel: its engines, its newest verdicts."
    console.print(summary, style="dim")


COMMANDS = {
    "doctor": click.command("doctor", help="Say what this machine can and cannot do, and what to install.")(
        verb(doctor)
    ),
    "list-targets": click.command(
        "list-targets", help="List the targets, their kernels per engine, and the evidence on each."
    )(verb(list_targets)),
}
