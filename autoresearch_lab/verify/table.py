"""A verification on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.format import number
from autoresearch_lab.results.record import VerifyRecord
from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.factors import in_words

# Calls that a kernel declined, in words; all are in the record.
MOST_DECLINED = 3
_STYLES = {"pass": "green", "fail": "bold red", "skipped": "dim", "not applicable": "dim"}


def render(record: VerifyRecord, console: Console) -> None:
    """Verdict, reason, and one row per check."""
    results = record.results
    colour = "green" if record.verdict == "PASS" else "red"
    verdict = (record.verdict, f"bold {colour}")
    console.print(Text.assemble(verdict, f"  {record.target}  {record.kernel.name}"))
    if results.failed_check:
        console.print(f"{results.failed_check}: {results.reason}", markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("check", "", "numbers"):
        table.add_column(column, overflow="fold")
    skipped = [check for check in results.checks if check.status == "skipped"]
    for check in results.checks:
        if check not in skipped:
            table.add_row(check.name, Text(check.status, style=_STYLES[check.status]), Text(_numbers(check)))
    if skipped:  # all for one reason: the kernel gave no answer
        table.add_row(f"{len(skipped)} more", Text("skipped", style=_STYLES["skipped"]), Text(skipped[0].reason))
    console.print(table)
    ratio = results.error_ratio
    worst = "" if ratio is None else f"; worst error {number(ratio)} times what is allowed"
    seconds = results.duration_seconds or 0.0
    console.print(f"{results.cases} cases drawn; {seconds:.1f} s{worst}; ledger {record.id[:12]}", style="dim")
    if results.factors:
        found = ", ".join(f"{factor.result} {100 * factor.smallest:.2g} %" for factor in results.factors)
        console.print(f"smallest common factor that would have been found: {found}", style="dim")
    for name, declined in _declined(results.checks):
        console.print(f"declined in {name}: {declined}", style="yellow", markup=False)
    for finding in results.diet:
        console.print(f"beyond a kernel's diet: {finding}", style="yellow", markup=False)
    if results.diet:
        console.print(
            "orchestrate promotes no kernel with such lines unless a person allows it by name", style="yellow"
        )
    if results.next_step:
        console.print(results.next_step, style="dim", markup=False, soft_wrap=True)
    if record.settings.interpreted:
        console.print(f"{_interpreter(record)} on the CPU: no evidence for a GPU", style="yellow")
    if record.not_enforced:
        console.print(f"not enforced on this system: {', '.join(record.not_enforced)}", style="yellow")


def _declined(checks: list[CheckResult]) -> Iterator[tuple[str, str]]:
    """(check, how many calls it declined and which) where a kernel raised NotImplementedError."""
    for check in checks:
        found = [str(call) for call in check.details.get("declined", [])]
        if found:
            more = f" and {len(found) - MOST_DECLINED} more" if len(found) > MOST_DECLINED else ""
            yield check.name, f"{len(found)} calls: {'; '.join(found[:MOST_DECLINED])}{more}"


def _interpreter(record: VerifyRecord) -> str:
    if record.engine != "mlx":
        return "run by Triton's interpreter"
    launches = record.results.launches or {}
    builds = [f"{count} launches in the {build} build" for build, count in sorted(launches.items())]
    return f"compiled from Metal and run ({', '.join(builds)})"


def _numbers(check: CheckResult) -> str:
    """The few numbers that matter, in one line."""
    if check.status != "pass":
        return check.reason[:300]
    if worst := check.worst:
        return (
            f"{check.compared} results; worst {in_words(worst.metric)} {worst.error:.2g}, "
            f"allowed {worst.allowed:.2g}, trusted implementations' own {worst.baseline_error:.2g} ({worst.case})"
        )
    return check.counted
