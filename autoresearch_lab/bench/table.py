"""A bench record on a terminal, within 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.bench.samples import whole
from autoresearch_lab.results.record import Record

COLOURS = {"FASTER": "bold green", "SLOWER": "bold red", "SAME": "bold yellow", "AMBIGUOUS": "bold yellow"}


def render(record: Record, console: Console) -> None:
    """Verdict, one line of reason, and a table of directions, workloads and the library's kernels."""
    found = record.results or {}
    kernel = record.kernel.name if record.kernel else "?"
    verdict = Text(str(record.verdict), style=COLOURS.get(str(record.verdict), "bold"))
    console.print(Text.assemble(verdict, f"  {record.target}/{kernel}: ", str(found.get("reason", ""))))
    console.print(_directions(found))
    if len(found["workloads"]) > 1:
        console.print(_workloads(found))
    for line in _notes(found):
        console.print(line, style="dim")


def _directions(found: Mapping[str, Any]) -> Table:
    table = _table("per step", "baseline", "candidate", "speed-up", "interval")
    for name, row in found["directions"].items():
        style = "bold" if name == found["direction"] else ""
        cells = (_ms(row["baseline_ms"]), _ms(row["candidate_ms"]), *_ratio(row["ratio"], row["interval"]))
        table.add_row(name, *cells, style=style)
    for library in found["libraries"]:
        ratio = _ratio(library["baseline_ratio"], library["baseline_interval"])
        table.add_row(f"library {library['name']}", "", "", *ratio, style="dim")
    return table


def _workloads(found: Mapping[str, Any]) -> Table:
    table = _table("workload", "calls", "baseline", "candidate", "speed-up", "interval")
    for row in found["workloads"]:
        times = whole(row["directions"])
        cells = (_ms(times["baseline_us"] / 1e3), _ms(times["candidate_us"] / 1e3))
        table.add_row(row["id"], f"{row['calls_per_step']:g}", *cells, *_ratio(times["ratio"], times["interval"]))
    return table


def _notes(found: Mapping[str, Any]) -> list[str]:
    low, high = found["control"]["interval"]
    lines = [
        f"{len(found['rounds'])} processes, {sum(found['rounds'])} rounds, {found['seconds']:.0f} s; "
        f"baseline against itself x{found['control']['ratio']:.3f} [{low:.3f}, {high:.3f}]"
    ]
    if found["library"] is not None:
        library = found["library"]
        low, high = library["interval"]
        lines.append(
            f"against the library's {library['name']}: x{library['ratio']:.3f} [{low:.3f}, {high:.3f}]"
            + (": beats it" if found["beats_library"] else ": does not surely beat it")
        )
    lines += _caches(found) + _graphs(found)
    predicted = found.get("predicted")
    if predicted:
        lines.append(
            f"predicted in the trainer: {predicted['saved_ms']:.2f} of {predicted['step_ms']:.1f} ms per step, "
            f"x{predicted['step_speedup']:.3f}"
        )
    return lines + [f"note: {remark}" for remark in found["remarks"]]


def _caches(found: Mapping[str, Any]) -> list[str]:
    """Of a GPU: the baseline's and the candidate's times per step with a warm cache; the verdict is on cold ones."""
    if not found.get("warm"):
        return []
    weights = {row["id"]: row["calls_per_step"] for row in found["workloads"]}

    def per_step(times: Mapping[str, list[float]]) -> float:
        return sum(sum(times[name]) * weight for name, weight in weights.items()) / 1e3

    warm = _by_role(found["warm"])
    baseline, candidate = per_step(warm["baseline"]), per_step(warm["candidate"])
    return [f"caches flushed before each call; warm: {_ms(baseline)} against {_ms(candidate)} per step"]


def _graphs(found: Mapping[str, Any]) -> list[str]:
    """Of a GPU: the baseline's and the candidate's short calls as replayed graphs, a line per workload."""
    times = _by_role((found.get("replayed") or {}).get("times") or {})
    pairs = {
        row["id"]: (sum(times["baseline"][row["id"]]), sum(times["candidate"][row["id"]]))
        for row in found["workloads"]
        if all(row["id"] in times.get(role, {}) for role in ("baseline", "candidate"))
    }
    return [f"{name} as replayed CUDA graphs: {one:.1f} us against {two:.1f} us" for name, (one, two) in pairs.items()]


def _by_role(times: Mapping[str, Any]) -> dict[str, Any]:
    """{role: its entry} of what is named "role:kernel"; of several libraries the last."""
    return {name.partition(":")[0]: of for name, of in times.items()}


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _ratio(value: float, ends: list[float]) -> tuple[str, str]:
    return f"x{value:.3f}", f"{ends[0]:.3f} .. {ends[1]:.3f}"


def _ms(value: float) -> str:
    return f"{value * 1e3:.1f} us" if value < 1.0 else f"{value:.2f} ms"
