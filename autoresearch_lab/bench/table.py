"""A bench record on a terminal, within 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.format import Estimate, times, times_bounds, times_interval
from autoresearch_lab.results.base import Ends
from autoresearch_lab.results.bench import BenchResults, Ratio
from autoresearch_lab.results.record import BenchRecord

COLOURS = {"FASTER": "bold green", "SLOWER": "bold red", "SAME": "bold yellow", "AMBIGUOUS": "bold yellow"}

T = TypeVar("T")


def render(record: BenchRecord, console: Console) -> None:
    """Verdict, one line of reason, and a table of directions, workloads and libraries; in bold what decides."""
    found = record.results
    verdict = Text(record.verdict, style=COLOURS[record.verdict])
    console.print(Text.assemble(verdict, f"  {record.target}/{record.kernel.name}: ", found.reason))
    console.print(_directions(found))
    if len(found.workloads) > 1:
        console.print(_workloads(found))
    for line in _notes(found):
        console.print(line, style="dim")
    if record.not_enforced:
        console.print(f"not enforced on this system: {', '.join(record.not_enforced)}", style="yellow")


def _directions(found: BenchResults) -> Table:
    table = _table("per step", "baseline", "candidate", "speed-up", "interval")
    taken = {name: _ms(ms) for name, ms in found.library_ms.items()}
    beaten = next((library for library in found.libraries if library.name == found.against), None)
    for name, row in found.directions.items():
        style = "bold" if name == found.direction and beaten is None else ""
        cells = (_ms(row.baseline_ms), _ms(row.candidate_ms), *_ratio(row.ratio, row.interval))
        table.add_row(name, *cells, style=style)
    whole = found.directions[found.direction]
    for library in found.libraries:
        # In the candidate's place; where the candidate has to beat it, in the baseline's.
        took = taken.get(library.name, "")
        ratio = _ratio(library.baseline_ratio, library.baseline_interval)
        table.add_row(f"library {library.name}", _ms(whole.baseline_ms), took, *ratio, style="dim")
        if library is beaten and found.ratio is not None and found.interval is not None:
            ratio = _ratio(found.ratio, found.interval)
            table.add_row(f"{found.direction}, against that", took, _ms(whole.candidate_ms), *ratio, style="bold")
    return table


def _workloads(found: BenchResults) -> Table:
    table = _table("workload", "calls", "baseline", "candidate", "speed-up", "interval")
    for row in found.workloads:
        whole = row.whole
        cells = (_ms(whole.baseline_us / 1e3), _ms(whole.candidate_us / 1e3))
        table.add_row(row.id, f"{row.calls_per_step:g}", *cells, *_ratio(whole.ratio, whole.interval))
    return table


def _notes(found: BenchResults) -> list[str]:
    lines = [f"{len(found.rounds)} processes, {sum(found.rounds)} rounds, {found.seconds or 0.0:.0f} s"]
    if found.control is not None:
        lines[0] += f"; baseline against itself {_shown(found.control)}"
    if found.library is not None and found.library.name != found.against:
        beats = "beats it" if found.beats_library else "does not surely beat it"
        lines.append(f"against the library's {found.library.name}: {_shown(found.library)}: {beats}")
    lines += _caches(found) + _graphs(found)
    predicted = found.predicted
    if predicted is not None and predicted.saved_ms is not None and predicted.step_ms is not None:
        lines.append(
            f"predicted in the trainer, uncompiled: {predicted.saved_ms:.2f} of {predicted.step_ms:.1f} ms per step, "
            f"{times(predicted.step_speedup)}"
        )
    standing = next((arm.name for arm in found.arms if arm.role == "standing"), None)
    in_graph = found.saved_ms(compiled=True, standing=standing is not None)
    if in_graph is not None:
        does = f"saves {in_graph:.2f} ms per step of" if in_graph >= 0 else f"costs {-in_graph:.2f} ms per step over"
        lines.append(f"within a compiled graph it {does} {standing or 'the baseline'}")
    return lines + [f"note: {remark}" for remark in found.remarks]


def _caches(found: BenchResults) -> list[str]:
    """Of a GPU: the baseline's and the candidate's times per step with a warm cache; the verdict is on cold ones."""
    if not found.warm:
        return []

    def per_step(of: Mapping[str, list[float]]) -> float:
        return sum(sum(of[row.id]) * row.calls_per_step for row in found.workloads) / 1e3

    warm = _by_role(found.warm)
    baseline, candidate = per_step(warm["baseline"]), per_step(warm["candidate"])
    return [f"caches flushed before each call; warm: {_ms(baseline)} against {_ms(candidate)} per step"]


def _graphs(found: BenchResults) -> list[str]:
    """Of a GPU: the baseline's and the candidate's short calls as replayed graphs, a line per workload."""
    replayed = _by_role(found.replayed.times if found.replayed else {})
    pairs = {
        row.id: (sum(replayed["baseline"][row.id]), sum(replayed["candidate"][row.id]))
        for row in found.workloads
        if all(row.id in replayed.get(role, {}) for role in ("baseline", "candidate"))
    }
    return [f"{name} as replayed CUDA graphs: {one:.1f} us against {two:.1f} us" for name, (one, two) in pairs.items()]


def _by_role(of: Mapping[str, T]) -> dict[str, T]:
    """{role: its entry} of what is named "role:kernel"; of several libraries the last."""
    return {name.partition(":")[0]: entry for name, entry in of.items()}


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _ratio(value: float, ends: Ends) -> tuple[Text, Text]:
    """Two cells; as text, since an interval's brackets are no markup."""
    return Text(times(value)), Text(times_bounds(Estimate(value, *ends)).strip())


def _shown(found: Ratio) -> str:
    return times_interval(Estimate(found.ratio, *found.interval))


def _ms(value: float) -> str:
    return f"{value * 1e3:.1f} us" if value < 1.0 else f"{value:.2f} ms"
