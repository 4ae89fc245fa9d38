"""Shows a run's events: a progress bar on a terminal, plain lines into a pipe."""

import sys
import time
from typing import Any, TextIO

from autoresearch_trainer.record import EvaluateEvent, Event, StartEvent, StepEvent, SummaryEvent

LINE_SECONDS = 5.0


class Console:
    """A `report` for loop.run. Use as a context manager, so that the progress bar is taken down on errors too."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._bar: Any = None
        self._printed = 0.0
        if self._stream.isatty():
            from rich.console import Console as Terminal
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            stage, text = TextColumn("{task.description:<10}"), TextColumn("{task.fields[text]}")
            terminal = Terminal(file=self._stream, markup=False, emoji=False)
            self._bar = Progress(stage, BarColumn(), text, TimeElapsedColumn(), console=terminal)

    def __enter__(self) -> "Console":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        if event["event"] == "start":
            self._on_start(event)
        elif event["event"] == "step":
            self._on_step(event)
        elif event["event"] == "evaluate":
            self._on_evaluate(event)
        else:
            self._on_summary(event)

    def _on_start(self, event: StartEvent) -> None:
        record = event["record"]
        config, dataset = record["config"], record["dataset"]
        for choice in record["choices"]:
            self._line(f"{choice['name'] + ':':<12}{choice['value']}  ({choice['why']})")
        self._line(
            f"{config['preset']}: {event['parameters'] / 1e6:.1f}M parameters, "
            f"{config['total_batch_tokens']} tokens per step, "
            f"data {dataset['name']} {dataset['fingerprint'][:12]}, ready in {record['startup_seconds']:.1f} s"
        )
        if config["compile"]:
            self._line("compiling: the first step takes 15 to 90 s on a CPU, and does not count")

    def _on_step(self, event: StepEvent) -> None:
        text = (
            f"step {event['step']:5d}  loss {event['smoothed_loss']:.4f}  {event['seconds'] * 1000:.0f} ms  "
            f"{event['tokens_per_second']:,.0f} tok/s"
        )
        self._progress("training", event["progress"], text, first_or_last=event["step"] == 1 or event["progress"] >= 1)

    def _on_evaluate(self, event: EvaluateEvent) -> None:
        done, total = event["done"], event["total"]
        self._progress("evaluating", done / total, f"batch {done}/{total}", first_or_last=done == total)

    def _on_summary(self, event: SummaryEvent) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
        print("\n".join(event["lines"]), file=self._stream, flush=True)

    def _progress(self, stage: str, fraction: float, text: str, first_or_last: bool) -> None:
        if self._bar:
            task = next((t for t in self._bar.tasks if t.description == stage), None)
            number = task.id if task else self._bar.add_task(stage, total=1.0, text="")
            self._bar.update(number, completed=fraction, text=text)
        elif first_or_last or time.monotonic() - self._printed >= LINE_SECONDS:
            self._line(f"{stage} {100 * fraction:5.1f} %  {text}")

    def _line(self, text: str) -> None:
        self._printed = time.monotonic()
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.console.print(text, highlight=False)
