"""A verification on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autoresearch_lab.records import Record

_STYLES = {"pass": "green", "fail": "bold red", "skipped": "dim", "not applicable": "dim"}


def render(record: Record, console: Console) -> None:
    """Verdict, reason, and one row per check."""
    results = record.results or {}
    colour = "green" if record.verdict == "PASS" else "red"
    name = record.kernel.name if record.kernel else ""
    console.print(f"[bold {colour}]{record.verdict}[/bold {colour}]  {record.target}  {escape(name)}")
    if results.get("failed_check"):
        console.print(f"{results['failed_check']}: {escape(results['reason'])}")
    table = Table(box=None, pad_edge=False)
    for column in ("check", "", "numbers"):
        table.add_column(column, overflow="fold")
    for check in results.get("checks", []):
        status = check["status"]
        table.add_row(check["name"], f"[{_STYLES[status]}]{status}[/{_STYLES[status]}]", escape(_numbers(check)))
    console.print(table)
    ratio = results.get("error_ratio")
    seconds, cases = results.get("duration_seconds"), results.get("cases")
    worst = "" if ratio is None else f"; worst error {ratio:.2f} of what is allowed"
    console.print(f"{cases} cases in {seconds:.1f} s{worst}; ledger {record.id[:12]}", style="dim")
    if results.get("interpreted"):
        console.print(f"{_interpreter(record)} on the CPU: no evidence for a GPU", style="yellow")
    missing = (record.settings or {}).get("not_enforced")
    if missing:
        console.print(f"not enforced on this system: {', '.join(missing)}", style="yellow")


def _interpreter(record: Record) -> str:
    if record.engine != "mlx":
        return "run by Triton's interpreter"
    launches = (record.results or {}).get("launches") or {}
    builds = [f"{count} launches in the {build} build" for build, count in sorted(launches.items())]
    return f"compiled from Metal and run ({', '.join(builds)})"


def _numbers(check: dict[str, Any]) -> str:
    """The few numbers that matter, in one line."""
    if check["status"] in ("skipped", "not applicable", "fail"):
        return check["reason"][:300]
    worst = check.get("worst")
    if worst:
        return (
            f"{check['compared']} results; worst {worst['metric']} error {worst['error']:.2g}, "
            f"allowed {worst['allowed']:.2g}, baseline's own {worst['baseline_error']:.2g} ({worst['case']})"
        )
    for key in ("compared", "calls", "cases", "pairs"):
        if key in check:
            return f"{check[key]} {'results' if key == 'compared' else key}"
    return ""
