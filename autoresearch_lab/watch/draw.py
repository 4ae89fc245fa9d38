"""A snapshot as lines of text. Words carry the meaning, colours only repeat it; every line fits the width."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from rich.text import Text

from autoresearch_lab import format as form
from autoresearch_lab.report.terminal import verdict_text
from autoresearch_lab.runs_table import HEADER
from autoresearch_lab.status import CandidateStatus
from autoresearch_lab.watch.snapshot import Snapshot, TrainingView, WorkView

BLOCKS = " ▁▂▃▄▅▆▇█"
LEAST_CURVE_ROWS, MOST_CURVE_ROWS = 2, 10
AXIS = 8


@dataclass(frozen=True)
class Section:
    """A part of the view. lines(snapshot, width, rows): at most so many; least: rows that it keeps where all are shown;
    columns: what its lines hold."""

    title: str
    lines: Callable[[Snapshot, int, int], list[Text]]
    least: int
    columns: str = ""


def page(snapshot: Snapshot, width: int, height: int, section: str | None = None) -> list[Text]:
    """The lines of the whole view, cut to width and height; of one section all that is known, however long."""
    top = [_title(snapshot, width), *_holders(snapshot)]
    top += [Text(f"cannot be read: {problem}", style="bold red") for problem in snapshot.problems]
    chosen = [each for each in SECTIONS if section in (None, each.title)]
    left = height - len(top) - len(chosen)
    shares = [left] if section else _shares(snapshot, chosen, width, left)
    for each, share in zip(chosen, shares, strict=True):
        top.append(Text(f"── {each.title}{each.columns and ': ' + each.columns} ".ljust(width, "─"), style="bold"))
        top += each.lines(snapshot, width, EVERY if section and each.title != TRAINING else share)
    if section is None:
        for line in top:
            line.truncate(width, overflow="ellipsis")
    return top


EVERY = 10_000


def _shares(snapshot: Snapshot, sections: list[Section], width: int, rows: int) -> list[int]:
    """How many rows each section gets: no more than it can fill, and what is left goes round."""
    wanted = [len(each.lines(snapshot, width, EVERY)) for each in sections]
    shares = [min(each.least, want) for each, want in zip(sections, wanted, strict=True)]
    while sum(shares) < rows and shares != wanted:
        for number, want in enumerate(wanted):
            if shares[number] < want and sum(shares) < rows:
                shares[number] += 1
    while sum(shares) > rows and any(shares):  # a very low window
        shares[shares.index(max(shares))] -= 1
    return shares


def _title(snapshot: Snapshot, width: int) -> Text:
    clock = time.strftime("%H:%M:%S", time.localtime(snapshot.at))
    name = f"kernel lab  {snapshot.root}"
    room = width - len(clock) - 2
    if len(name) > room:
        name = name[: room - 1] + "…"
    return Text(f"{name.ljust(room)}  {clock}", style="bold")


def _holders(snapshot: Snapshot) -> list[Text]:
    if not snapshot.holders:
        return [Text("nobody measures or trains on this machine")]
    return [Text(f"{device}: {', '.join(found)}") for device, found in snapshot.holders.items()]


def _work(snapshot: Snapshot, width: int, rows: int) -> list[Text]:
    lines = []
    for work in snapshot.work:
        lines += _one_work(work)
    return lines[:rows] or [Text("no verb has measured here")][:rows]


def _one_work(work: WorkView) -> list[Text]:
    lines = [Text(f"{work.verb} on {work.device}: {work.state}, {form.duration(work.seconds)}")]
    if work.state == "running" and work.stage:
        lines.append(Text(f"  {work.about}: {work.stage}{_count(work)}"))
    if work.candidates:
        lines.append(Text(f"  {_candidates_left(work)}"))
        order = sorted(work.candidates, key=lambda row: (row.since is None, row.step is None))
        lines += [Text(f"  {'▸' if row.since is not None else ' '} {_standing(row, work.state)}") for row in order]
    return lines


def _count(work: WorkView) -> str:
    if work.done is None or not work.total:
        return ""
    left = f", {form.duration(work.left)} left at this pace" if work.left is not None else ""
    return f" ({work.done:.0f} of {work.total:.0f}{left})"


def _candidates_left(work: WorkView) -> str:
    ended = sum(row.step is None for row in work.candidates)
    text = f"{len(work.candidates)} candidates, {ended} at their end"
    if work.state != "running":
        return text
    if work.candidates_left:
        text += f", at most {form.duration(work.candidates_left)} left"
        return text + (f", without {', '.join(work.unknown)} (not timed yet)" if work.unknown else "")
    return text + (f", time left not known yet ({', '.join(work.unknown)})" if work.unknown else "")


def _standing(row: CandidateStatus, state: str) -> str:
    if row.since is None:
        where = f"next: {row.step}" if row.step else row.reason
    elif state == "running":
        where = f"{row.step} for {form.duration(time.time() - row.since)}"
    else:
        where = f"last: {row.step}"
    return f"{row.candidate:<34} {where}"


def _training(snapshot: Snapshot, width: int, rows: int) -> list[Text]:
    run = snapshot.training
    if run is None:
        return [Text("no training has written to runs/")][:rows]
    head = f"{run.name}: {run.state}, {run.preset} on {run.dataset}, {run.parameters / 1e6:.1f}M parameters"
    lines = [Text(f"{head}, step {run.step}, {100 * run.progress:.1f} %"), Text(_figures(run))]
    height = min(rows - len(lines), MOST_CURVE_ROWS)
    if height >= LEAST_CURVE_ROWS:
        lines += curve(run.points, width, height)
    return lines[:rows]


def _figures(run: TrainingView) -> str:
    found = [f"val_bpb {form.bpb(run.val_bpb)}"] if run.val_bpb is not None else []
    found += [f"loss {form.number(run.loss, 4)}", f"{form.number(run.tokens_per_second)} tokens/s"]
    found.append(f"MFU {run.mfu_percent:.1f} %" if run.mfu_percent is not None else "MFU unknown")
    found += [f"memory {run.memory_mb:,.0f} MiB"] if run.memory_mb is not None else []
    found += [f"{form.duration(run.left)} left"] if run.left is not None else []
    return "  ".join(found)


def curve(points: list[tuple[float, float]], width: int, height: int) -> list[Text]:
    """The loss over seconds of training as columns of blocks, without its first tenth, which is far above the rest."""
    last = points[-1][0] if points else 0.0
    late = [point for point in points if point[0] >= last / 10]
    if len(late) < 2 or not last:
        return []
    columns: dict[int, float] = {}
    begin, room = late[0][0], max(2, width - AXIS - 1)
    for at, loss in late:
        columns[min(room - 1, int((at - begin) / ((last - begin) or 1.0) * room))] = loss
    low, high = min(columns.values()), max(columns.values())
    known, filled = next(iter(columns.values())), []
    for number in range(room):
        known = columns.get(number, known)
        # The lowest point keeps a block, so that it is seen.
        filled.append(1 + round((known - low) / ((high - low) or 1.0) * (8 * height - 1)))
    labels = {0: f"{high:.3f}", height - 1: f"{low:.3f}"}
    lines = []
    for row in range(height):
        base = 8 * (height - 1 - row)
        drawn = "".join(BLOCKS[min(8, max(0, level - base))] for level in filled)
        lines.append(Text(f"{labels.get(row, ''):>{AXIS - 1}} {drawn}"))
    return lines


def _verdicts(snapshot: Snapshot, width: int, rows: int) -> list[Text]:
    lines = []
    for one in snapshot.verdicts:
        verdict = verdict_text(one.verdict)
        verdict.pad_right(max(0, 10 - len(verdict)))
        about = Text(one.subject)
        about.truncate(width // 3, overflow="ellipsis")  # leaves room for the interval
        lines.append(Text.assemble(f"{_when(one.time)} {one.kind:<6} ", verdict, " ", about, f"  {one.found}"))
    return _last(lines, rows, "no verdict yet")


def _when(text: str) -> str:
    """The time of day here, of another day its date instead."""
    try:
        found = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return text[:5].ljust(5)
    return f"{found:%H:%M}" if found.date() == datetime.now().astimezone().date() else f"{found:%m-%d}"


def _experiments(snapshot: Snapshot, width: int, rows: int) -> list[Text]:
    lines = [
        Text(f"{row['commit']:<9}{row['val_bpb']:>9}{row['memory_gb']:>6} GB  {row['status']:<12}{row['description']}")
        for row in snapshot.rows
    ]
    return _last(lines, rows, "no run yet")


def _log(snapshot: Snapshot, width: int, rows: int) -> list[Text]:
    return _last([Text(line) for work in snapshot.work[:1] for line in work.log], rows, "nothing was told yet")


def _last(lines: list[Text], rows: int, otherwise: str) -> list[Text]:
    return (lines or [Text(otherwise)])[-rows:] if rows > 0 else []


TRAINING = "training"
SECTIONS = (
    Section("work", _work, 4),
    Section(TRAINING, _training, 5),
    Section("verdicts", _verdicts, 3),
    Section("experiments", _experiments, 2, ", ".join(HEADER)),
    Section("log", _log, 2),
)
