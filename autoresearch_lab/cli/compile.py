"""Verb `compile-check`."""

from __future__ import annotations

from itertools import groupby

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.cli.app import Session, VerbResult, command
from autoresearch_lab.cli.progress import progress
from autoresearch_lab.cli.subject import KernelWords, find, kernel_arguments
from autoresearch_lab.compile_check import ARCHITECTURES, architectures, compile_check
from autoresearch_lab.errors import LabError
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.compile import CompiledKernel
from autoresearch_lab.results.record import CompileRecord


def run(session: Session, *, named: list[KernelWords], arch: str, first_only: bool) -> VerbResult:
    if session.engine_name not in ("auto", "cuda"):
        raise LabError(f"compile-check is for --engine cuda, not {session.engine_name}")
    chosen = find(named[0], session.lab, "torch")
    with progress(session.log, session.verb) as show:
        record = compile_check(
            chosen.kernel,
            chosen.target,
            architectures(arch),
            session.lab,
            first_only=first_only,
            on_progress=show,
        )
    name = f"{chosen.target.name}={chosen.kernel.name}"
    data = {"target": chosen.target.name, "kernel": name, **record.details()}
    return VerbResult(data, lambda console: _render(record, console), positive=record.results.ok)


def _words(config: Facts) -> str:
    """Tile sizes and warps: what tells configurations apart."""
    left_out = ("num_ctas", "num_stages")
    return " ".join(f"{name.removeprefix('num_')}={v}" for name, v in config.items() if name not in left_out)


def _render(record: CompileRecord, console: Console) -> None:
    """A table of the architectures for every kernel and configuration; these have lines of their own, being long."""
    rows = record.results.kernels
    for (kernel, config), group in groupby(rows, lambda row: (row.kernel, _words(row.config))):
        console.print(Text.assemble((kernel, "bold"), "  ", (config, "dim")))
        console.print(_architectures(list(group)))
    wrong = [row for row in rows if row.problems]
    for row in wrong:
        console.print(Text.assemble((f"{row.arch} {row.kernel}", "red"), f": {'; '.join(row.problems)}"))
    triton = record.settings.triton
    console.print(
        f"{len(rows)} compiled, {len(wrong)} with problems; Triton {triton}; ledger {record.id[:12]}", style="dim"
    )


def _architectures(rows: list[CompiledKernel]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("  arch", min_width=8)
    for column in ("regs", "spills", "shared", "wide"):
        table.add_column(column, justify="right", min_width=6)
    table.add_column("tensor cores", overflow="fold")
    for row in rows:
        name = "  " + row.arch
        if row.error:
            table.add_row(name, "-", "-", "-", "-", Text("does not compile", style="red"))
            continue
        share = "none" if row.vector_share is None else f"{row.vector_share:.0%}"
        numbers = (str(row.registers), str(row.spill_bytes), str(row.shared_bytes), share)
        table.add_row(name, *numbers, " ".join(row.tensor_core) or "-")
    return table


COMMANDS = {
    "compile-check": command(
        "compile-check",
        run,
        "Compile a Triton kernel for GPUs that need not be here: spills, loads, tensor cores.",
        kernel_arguments(),
        click.option("--arch", default=",".join(ARCHITECTURES), show_default=True, help="GPUs to compile for."),
        click.option("--first-only", is_flag=True, help="Of each tuned kernel's configurations only the first."),
    )
}
