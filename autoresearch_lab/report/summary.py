"""What a whole run came to, in one table: the verdicts per kernel, what is promoted, the trainer before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from autoresearch_lab import format as form
from autoresearch_lab import lookup
from autoresearch_lab.ab import outcome
from autoresearch_lab.format import Estimate
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.report import sources
from autoresearch_lab.report.brief import failed_check
from autoresearch_lab.report.collect import contents, story
from autoresearch_lab.report.sources import Sources
from autoresearch_lab.report.terminal import add, table, verdict_text
from autoresearch_lab.report.views import speed_up
from autoresearch_lab.report.write import DEFAULT_NAME
from autoresearch_lab.results.record import AbRecord, BenchRecord, R, Record, VerifyRecord


@dataclass(frozen=True)
class SummaryRow:
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

    rows: list[SummaryRow]
    story: AbRecord | None
    promoted: dict[str, str]  # target -> kernel in use on this machine
    report: Path | None

    def plain(self) -> dict[str, Any]:
        told: dict[str, Any] = {"tokens_per_second": None, "val_bpb": None, "modes": {}, "ab": None}
        if self.story is not None:
            before, after = outcome.tokens_per_second(self.story)
            told["tokens_per_second"] = {"before": before, "after": after, "ratio": _plain(outcome.speed(self.story))}
            first, last, at_equal_time = outcome.val_bpb(self.story)
            delta = _plain(outcome.estimate(self.story.results.gates.get("neutral")))
            told["val_bpb"] = {"before": first, "after": last, "delta": delta, "at_equal_time": at_equal_time}
            told["modes"] = {arm: found.plain() for arm, found in self.story.results.modes.items()}
            told["ab"] = self.story.id
        return {
            "kernels": [row.plain() for row in self.rows],
            "promoted": self.promoted,
            **told,
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

    def _print_story(self, console: Console, record: AbRecord) -> None:
        _line(console, "measured with", outcome.subject(record))
        ratio, (before, after) = outcome.speed(record), outcome.tokens_per_second(record)
        speed = f"{form.number(before, 4)} → {form.number(after, 4)}"
        _line(console, "tokens/s", speed + (f"  ({outcome.gain(ratio)})" if ratio else ""))
        for line in outcome.mode_speeds(record):
            _line(console, "", line)
        first, last, at_equal_time = outcome.val_bpb(record)
        gates = record.results.gates
        if first is not None and last is not None:
            delta = outcome.estimate(gates.get("neutral"))
            shown = f"  (Δ at equal tokens {form.signed_interval(delta)})" if delta else ""
            _line(console, "val_bpb", f"{form.bpb(first)} → {form.bpb(last)}{shown}")
        if at_equal_time is not None:
            benefit = outcome.estimate(gates.get("benefit"))
            shown = f"  (Δ {form.signed_interval(benefit)})" if benefit else ""
            _line(console, "at equal time", f"{form.bpb(first)} → {form.bpb(at_equal_time)}{shown}")


def summary(lab: Lab, context: Context) -> SummaryTable:
    """Read the table off the ledger: only evidence that counts there is taken.

    Raises:
        LabError: the ledger or a list of promoted kernels cannot be read.
    """
    found = sources.read(lab, context)
    promoted = found.promoted_contents
    targets = found.today.present.targets.values()
    baselines = {kernel.sha256 for target in targets for kernel in target.kernels if kernel.role == "baseline"}
    abs_ = [source for source in found.abs() if source.counts]
    shared = [source.record for source in abs_ if len(contents(source.record)) > 1]
    of_kernel: dict[tuple[str, str], list[Record]] = {}
    for target, sha256 in _contents_today(found, context.engine.framework):
        counting = [found.counting(of, target=target, kernel_sha256=sha256) for of in lookup.JUDGING]
        records = [source.record for source in counting if source is not None]
        if records and sha256 not in baselines:
            of_kernel[target, sha256] = records
    rows = [_row(target, sha256, records, promoted, shared) for (target, sha256), records in of_kernel.items()]
    rows.sort(key=lambda row: (-(row.ratio.value if row.ratio else 0.0), row.target, row.kernel))
    report = lab.root.results / DEFAULT_NAME
    told = story(abs_, promoted)
    return SummaryTable(
        rows=rows,
        story=told.record if told else None,
        promoted={target: kernel.name for target, kernel in found.promoted.items()},
        report=report if report.is_file() else None,
    )


def _contents_today(found: Sources, framework: str) -> dict[tuple[str, str], None]:
    """(target, content) of the kernels that have evidence of here, as far as they are still there, each once."""
    known = lookup.kernels(found.lab.ledger, VerifyRecord | BenchRecord | AbRecord, **found.here)
    contents = [(target, found.today.contents(target, name, framework).values()) for target, name in known]
    return dict.fromkeys((target, sha256) for target, hashes in contents for sha256 in hashes if sha256)


def _trainer_note(row: SummaryRow) -> str:
    """What stands under the verdict of the A/B: its ratio, or with how many kernels it was shared."""
    if row.others:
        return f"with {row.others} more"
    return form.times_interval(row.gain) if row.gain else ""


def _row(
    target: str, sha256: str, records: list[Record], promoted: dict[str, str], shared: list[AbRecord]
) -> SummaryRow:
    """`records`: of one kernel content, one of a kind. `shared`: A/Bs of several kernels at once, newest first; one
    counts for a kernel that has none of its own."""
    checked, timed, raced = _last(records, VerifyRecord), _last(records, BenchRecord), _last(records, AbRecord)
    name, why = failed_check(checked) if checked and checked.verdict == "FAIL" else ("", "")
    joint = None if raced else next((record for record in shared if contents(record).get(target) == sha256), None)
    judged = raced or joint
    return SummaryRow(
        target=target,
        kernel=records[-1].kernel.name if records[-1].kernel else "",
        verify=checked.verdict if checked else None,
        failed=name or why,
        bench=timed.verdict if timed else None,
        ratio=speed_up(timed) if timed else None,
        ab=judged.verdict if judged else None,
        gain=outcome.speed(raced) if raced else None,
        others=len(contents(joint)) - 1 if joint else 0,
        promoted=promoted.get(target) == sha256,
    )


def _last(records: list[Record], of: type[R]) -> R | None:
    return next((record for record in reversed(records) if isinstance(record, of)), None)


def _line(console: Console, name: str, value: str) -> None:
    console.print(Text.assemble((f"{name:>14}  ", "dim"), value))


def _plain(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else {"value": estimate.value, "low": estimate.low, "high": estimate.high}
