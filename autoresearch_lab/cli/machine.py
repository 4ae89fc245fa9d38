"""Verbs `doctor` and `list-targets`: what this machine can do, and what there is to work on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab import lookup
from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.doctor import Diagnosis, examine, usable
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.promote import registry
from autoresearch_lab.promote.selection import lost_promotions
from autoresearch_lab.results.base import KernelId

MARKS = {"ok": Text("ok", "green"), "missing": Text("no", "yellow"), "problem": Text("bad", "red")}


def doctor(session: Session) -> VerbResult:
    findings = examine(session.lab.root, session.lab.ledger)
    able = usable(findings, session.engine_name)
    data = {"usable": able, "findings": [finding.plain() for finding in findings]}
    return VerbResult(data, lambda console: _show_findings(findings, session.engine_name, console), positive=able)


def _show_findings(findings: list[Diagnosis], engine: str, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = ""
    for finding in findings:
        remedy = (f"\n-> {finding.remedy}", "cyan") if finding.remedy else ""
        shown = finding.group if finding.group != group else ""
        group = finding.group
        table.add_row(shown, Text(finding.name), MARKS[finding.state], Text.assemble(finding.detail, remedy))
    console.print(table)
    able = [finding.name for finding in findings if finding.group == "engine" and finding.state == "ok"]
    console.print()
    if usable(findings, engine):
        console.print(f"This machine can run: {', '.join(able)}.")
    else:
        what = "the lab" if engine == "auto" else f"--engine {engine}"
        console.print(f"This machine cannot run {what} yet; see the lines above.", style="red")


@dataclass(frozen=True)
class ListedKernel:
    """A kernel, and the newest verdict of each kind that the ledger has on its present content, on any device.
    promoted: just this content is, for some engine and device."""

    name: str
    role: str
    language: str
    engines: list[str]
    sha256: str
    summary: str
    evidence: dict[str, str]
    promoted: bool

    @classmethod
    def of(cls, kernel: Kernel, ledger: Ledger, promoted: Collection[tuple[str, KernelId]]) -> ListedKernel:
        return cls(
            name=kernel.name,
            role=kernel.role,
            language=kernel.language,
            engines=[e.name for e in ENGINES.values() if kernel.made_for(e.framework, e.device)],
            sha256=kernel.sha256,
            summary=kernel.summary,
            evidence=lookup.verdicts(ledger, kernel),
            promoted=any(at == kernel.target and one == kernel.id for at, one in promoted),
        )


@dataclass(frozen=True)
class ListedTarget:
    """A target and its kernels."""

    target: str
    summary: str
    signature: str
    phase: str
    replaces: list[str]
    kernels: list[ListedKernel]

    @classmethod
    def of(cls, target: Target, ledger: Ledger, promoted: Collection[tuple[str, KernelId]]) -> ListedTarget:
        found, kernels = target.contract, [ListedKernel.of(kernel, ledger, promoted) for kernel in target.kernels]
        return cls(target.name, found.summary, found.signature, found.phase, found.replaces, kernels)


def list_targets(session: Session) -> VerbResult:
    catalog = load_catalog(session.lab.root)
    promoted = [(entry.target, entry.id) for entry in registry.everywhere(session.lab.root)]
    rows = [ListedTarget.of(target, session.lab.ledger, promoted) for target in catalog.values()]
    lost = lost_promotions(catalog, session.lab.root)
    data = {"targets": [asdict(row) for row in rows], "lost_promotions": lost}
    return VerbResult(data, lambda console: _show_targets(rows, lost, console))


def _show_targets(rows: list[ListedTarget], lost: list[str], console: Console) -> None:
    kernels = [kernel for row in rows for kernel in row.kernels]
    name_width = max([len(kernel.name) for kernel in kernels] + [1])
    role_width = max([len(kernel.role) for kernel in kernels] + [1])
    for row in rows:
        console.print(Text.assemble((row.target, "bold"), f"  {row.summary}"), soft_wrap=True)
        console.print(f"  {row.signature}", style="dim", markup=False, soft_wrap=True)
        for kernel in row.kernels:
            name, role = kernel.name.ljust(name_width), kernel.role.ljust(role_width)
            told = [*kernel.evidence.values(), *(["promoted"] if kernel.promoted else [])]
            evidence = ", ".join(told) or "-"
            console.print(f"    {name}  {role}  {' '.join(kernel.engines):<9} {evidence}", soft_wrap=True)
    summary = f"\n{len(rows)} targets, {len(kernels)} kernels. Behind a kernel: its engines, its newest verdicts."
    console.print(summary, style="dim")
    for line in lost:
        console.print(line, style="yellow", markup=False, soft_wrap=True)


COMMANDS = {
    "doctor": command(
        "doctor",
        doctor,
        "Say what this machine can and cannot do, and what to install. Exit code 0: the lab (or the engine "
        "that --engine names) can work here.",
    ),
    "list-targets": command(
        "list-targets", list_targets, "List the targets, their kernels per engine, and the evidence on each."
    ),
}
