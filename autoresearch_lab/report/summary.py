"""What a whole run came to, in one table: the verdicts per kernel, what is promoted, the trainer before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.report import format as form
from autoresearch_lab.report import sources
from autoresearch_lab.report.collect import contents, story
from autoresearch_lab.report.readers import ab, bench, verify
from autoresearch_lab.report.sources import Sources
from autoresearch_lab.report.terminal import add, table, verdict_text
from autoresearch_lab.report.views import AB, Estimate
from autoresearch_lab.report.write import DEFAULT_NAME
from autoresearch_lab.results.record import Record

STEPS = ("verify", "bench", "ab")


@dataclass(frozen=True)
class Row:
    """One kernel: its verdicts that count here (None = no such evidence), and whether the trainer uses it."""

    target: str
    kernel: str
    verify: str | None
    failed: str  # what the verification stumbled over; empty where it passed
    bench: str | None
    ratio: Estimate | None  # speed-up in the benchmark
    ab: str | None
    gain: Estimate | None  # ratio of tokens per second in the trainer
    others: int  # kernels that shared that A/B; its ratio is theirs together, and not given here
    promoted: bool

    def plain(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "kernel": self.kernel,
            "verify": self.verify,
            "failed_check": self.failed or None,
            "bench": self.bench,
            "bench_ratio": _plain(self.ratio),
            "ab": self.ab,
            "ab_ratio": _plain(self.gain),
            "ab_shared_with": self.others,
            "promoted": self.promoted,
        }


@dataclass(frozen=True)
class SummaryTable:
    """The table, the A/B that says what it is worth in the trainer, and the report's path (None = not written)."""

    rows: list[Row]
    story: AB | None
    promoted: dict[str, str]  # target -> kernel in use on this machine
    report: Path | None

    def plain(self) -> dict[str, Any]:
        found = self.story
        return {
            "kernels": [row.plain() for row in self.rows],
            "promoted": self.promoted,
            "tokens_per_second": found
            and {"before": found.before_tokens_s, "after": found.after_tokens_s, "ratio": _plain(found.ratio)},
            "val_bpb": found
            and {
                "before": found.before_bpb,
                "after": found.after_bpb,
                "delta": _plain(found.delta),
                "at_equal_time": found.equal_time_bpb,
            },
            "ab": found and found.source.id,
            "report": str(self.report) if self.report else None,
        }

    def render(self, console: Console) -> None:
        """Print it."""
        rows = table("target", "verify", "bench", "A/B in the trainer", "in use")
        for row in self.rows:
            add(
                rows,
                Text.assemble(row.target, (f"\n  {row.kernel}", "dim")),
                Text.assemble(verdict_text(row.verify), (f"\n{row.failed}" if row.failed else "", "dim")),
                Text.assemble(verdict_text(row.bench), f"\n{form.times_interval(row.ratio)}" if row.ratio else ""),
                Text.assemble(verdict_text(row.ab), f"\n{_trainer_note(row)}"),
                Text("yes", style="bold green") if row.promoted else Text("no", style="dim"),
            )
        console.print(rows)
        chosen = ", ".join(f"{target}={kernel}" for target, kernel in self.promoted.items())
        _line(console, "promoted", chosen or "nothing")
        if self.story is not None:
            self._print_story(console, self.story)
        if self.report is not None:
            _line(console, "report", str(self.report))

    def _print_story(self, console: Console, found: AB) -> None:
        over = f" on top of {', '.join(found.over)}" if found.over else ""
        _line(console, "measured with", f"{found.title}{over}{f', {found.preset}' if found.preset else ''}")
        speed = f"{form.number(found.before_tokens_s, 4)} → {form.number(found.after_tokens_s, 4)}"
        if found.ratio:
            ends = form.gain_interval(found.ratio)
            speed += f"  ({form.percent(found.ratio.value - 1)}{f', interval {ends}' if ends else ''})"
        _line(console, "tokens/s", speed)
        if found.before_bpb is not None and found.after_bpb is not None:
            delta = f"  (Δ at equal tokens {form.signed_interval(found.delta)})" if found.delta else ""
            _line(console, "val_bpb", f"{form.bpb(found.before_bpb)} → {form.bpb(found.after_bpb)}{delta}")
        if found.equal_time_bpb is not None:
            delta = f"  (Δ {form.signed_interval(found.benefit)})" if found.benefit else ""
            _line(console, "at equal time", f"{form.bpb(found.before_bpb)} → {form.bpb(found.equal_time_bpb)}{delta}")


def summary(root: Root, ledger: Ledger, context: Context | None) -> SummaryTable:
    """Read the table off the ledger. With a context only evidence that counts there is taken; without one the newest.

    Raises:
        LabError: the ledger or a list of promoted kernels cannot be read.
    """
    found = sources.read(root, ledger, context)
    newest: dict[tuple[str, str], dict[str, Record]] = {}
    for record in found.records:
        if record.kind in STEPS and record.target and record.kernel and _taken(found, record):
            newest.setdefault((record.target, record.kernel.sha256), {})[record.kind] = record
    promoted = contents(found)
    baselines = {
        kernel.sha256
        for target in found.present.targets.values()
        for kernel in target.kernels
        if kernel.role == "baseline"
    }
    abs_ = [ab.read(record, found.source(record)) for record in reversed(found.records) if record.kind == "ab"]
    shared = [view for view in abs_ if len(view.contents) > 1 and (context is None or view.source.counts)]
    kept = {key: by_kind for key, by_kind in newest.items() if key[1] not in baselines}
    rows = [_row(found, by_kind, promoted, shared) for by_kind in kept.values()]
    rows.sort(key=lambda row: (-(row.ratio.value if row.ratio else 0.0), row.target, row.kernel))
    report = root.results / DEFAULT_NAME
    return SummaryTable(
        rows=rows,
        story=story([view for view in abs_ if context is None or view.source.counts], promoted),
        promoted={target: kernel.name for target, kernel in found.promoted.items()},
        report=report if report.is_file() else None,
    )


def _taken(found: Sources, record: Record) -> bool:
    return found.context is None or found.source(record).counts


def _trainer_note(row: Row) -> str:
    """What stands under the verdict of the A/B: its ratio, or with how many kernels it was shared."""
    if row.others:
        return f"with {row.others} more"
    return form.times_interval(row.gain) if row.gain else ""


def _row(found: Sources, by_kind: dict[str, Record], promoted: dict[str, str], shared: list[AB]) -> Row:
    """`by_kind`: the newest verify, bench and ab record of one kernel content. `shared`: A/Bs of several kernels at
    once, newest first; one counts for a kernel that has none of its own."""
    any_record = next(reversed(by_kind.values()))
    checked = by_kind.get("verify")
    failed = ""
    if checked is not None and checked.verdict == "FAIL":
        view = verify.read(checked, found.source(checked))
        failed = next((check.name for check in view.checks if check.status == "fail"), view.reason)
    timed, raced = by_kind.get("bench"), by_kind.get("ab")
    speeds = bench.read(timed, found.source(timed)) if timed else []
    sha256 = any_record.kernel.sha256
    joint = None if raced else next((view for view in shared if view.contents.get(any_record.target) == sha256), None)
    return Row(
        target=any_record.target or "",
        kernel=any_record.kernel.name,
        verify=checked.verdict if checked else None,
        failed=failed,
        bench=timed.verdict if timed else None,
        ratio=next((speed.ratio for speed in speeds if speed.verdict), None),
        ab=raced.verdict if raced else joint.verdict if joint else None,
        gain=ab.read(raced, found.source(raced)).ratio if raced else None,
        others=len(joint.contents) - 1 if joint else 0,
        promoted=promoted.get(any_record.target or "") == sha256,
    )


def _line(console: Console, name: str, value: str) -> None:
    console.print(Text.assemble((f"{name:>14}  ", "dim"), value))


def _plain(estimate: Estimate | None) -> dict[str, float | None] | None:
    return estimate and {"value": estimate.value, "low": estimate.low, "high": estimate.high}
