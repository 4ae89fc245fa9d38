"""A gate's answer for people on a terminal, in Markdown, and for machines that read JUnit's XML."""

from __future__ import annotations

import xml.etree.ElementTree as xml

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoresearch_lab.bench.rule import AMBIGUOUS
from autoresearch_lab.bench.table import COLOURS
from autoresearch_lab.format import Estimate, times_interval
from autoresearch_lab.gate.kernels import GateAnswer
from autoresearch_lab.gate.race import Compared

COLUMNS = ("what", "verdict", "speed-up", "base", "head")


def render(answer: GateAnswer, console: Console) -> None:
    """The table, a line of reason for each row, and the verdict of the whole."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for row in answer.rows:
        name, verdict, *numbers = _cells(row)
        table.add_row(Text(name), Text(verdict, style=COLOURS.get(verdict, "bold red")), *map(Text, numbers))
    if answer.rows:
        console.print(table)
    for line in _lines(answer):
        console.print(line, style="dim", soft_wrap=True)
    console.print(_summary(answer), style="bold")


def markdown(answer: GateAnswer) -> str:
    """For a pull request or a job's summary."""
    lines = [f"## kernel-lab gate: {_escaped(answer.title)}", "", f"**{_summary(answer)}**", ""]
    if answer.rows:
        lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        lines += [f"| {' | '.join(_escaped(cell) for cell in _cells(row))} |" for row in answer.rows] + [""]
    return "\n".join(lines + [f"- {_escaped(line)}" for line in _lines(answer)]) + "\n"


def junit(answer: GateAnswer) -> str:
    """A test case for each row: SLOWER and FAIL are failures, AMBIGUOUS is skipped, so that it is seen and stops
    nobody."""
    failures, skipped = (
        [row for row in answer.rows if not row.passes],
        [row for row in answer.rows if row.verdict == AMBIGUOUS],
    )
    suite = xml.Element(
        "testsuite",
        name="kernel-lab gate",
        tests=str(len(answer.rows)),
        failures=str(len(failures)),
        skipped=str(len(skipped)),
    )
    for row in answer.rows:
        case = xml.SubElement(suite, "testcase", classname="kernel-lab gate", name=_printable(row.name))
        message = _printable(f"{row.verdict}: {row.reason}")
        if row in failures:
            xml.SubElement(case, "failure", type=row.verdict, message=message)
        elif row in skipped:
            xml.SubElement(case, "skipped", message=message)
        else:
            xml.SubElement(case, "system-out").text = message
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(suite, encoding="unicode") + "\n"


def _cells(row: Compared) -> tuple[str, ...]:
    speed = "-" if row.ratio is None or row.interval is None else times_interval(Estimate(row.ratio, *row.interval))
    return row.name, row.verdict, speed, _seconds(row.base_seconds), _seconds(row.head_seconds)


def _lines(answer: GateAnswer) -> list[str]:
    rows = [f"{row.name}: {row.reason}" for row in answer.rows]
    return rows + [f"{name} differs too, and was not judged: it {why}" for name, why in answer.left_out.items()]


def _summary(answer: GateAnswer) -> str:
    if not answer.rows:
        return f"passes: no kernel {'that runs here ' if answer.left_out else ''}differs, nor the training step"
    stopped = [row.name for row in answer.rows if not row.passes]
    open_ = sum(row.verdict == AMBIGUOUS for row in answer.rows)
    unsure = f" ({open_} of {len(answer.rows)} ambiguous)" if open_ else ""
    return (f"does not pass: {', '.join(stopped)}" if stopped else "passes") + unsure


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    unit, factor = ("us", 1e6) if value < 1e-3 else ("ms", 1e3) if value < 1 else ("s", 1.0)
    return f"{value * factor:.3g} {unit}" if value * factor < 1000 else f"{value * factor:.0f} {unit}"


def _escaped(text: str) -> str:
    return _printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _printable(text: str) -> str:
    """XML has no way to write most control characters."""
    return "".join(character if character.isprintable() else " " for character in text)
