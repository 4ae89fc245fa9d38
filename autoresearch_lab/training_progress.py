"""What a training run says of itself while it goes on: lines that are appended to `progress.jsonl` in its folder.

Like a status file it is no evidence, is not flushed to the disk, and where it cannot be written the training goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from autoresearch_lab.status import Line, Number, Teller, Told, Whole
from autoresearch_trainer.record import Event, StartEvent
from autoresearch_trainer.summary import datasheet_flops

PROGRESS_FILE = "progress.jsonl"
# The least seconds between two lines.
LINE_SECONDS = 0.5


class TrainingStart(Teller):
    """peak_flops: what MFU is a share of, None where that is unknown; time: of the line, since the epoch."""

    event: Literal["start"] = "start"
    time: Number
    preset: Line
    dataset: Line
    parameters: Whole
    flops_per_token: Number
    peak_flops: Number | None = None


class TrainingStep(Told):
    """After a step. loss: smoothed; tokens_per_second: since the line before; seconds: of training, as they count."""

    event: Literal["step"] = "step"
    time: Number
    step: Whole
    progress: Annotated[float, Field(ge=0, le=1)]
    loss: Number
    tokens_per_second: Number
    seconds: Number
    memory_mb: Number | None = None


class TrainingEvaluation(Told):
    event: Literal["evaluate"] = "evaluate"
    time: Number
    done: Whole
    total: Whole


class TrainingEnd(Told):
    """How it ended; the numbers are those of the run's summary, as far as it came to one."""

    event: Literal["end"] = "end"
    time: Number
    status: Line
    val_bpb: Number | None = None
    tokens_per_second: Number | None = None
    mfu_percent: Number | None = None
    peak_vram_mb: Number | None = None


TrainingLine = Annotated[TrainingStart | TrainingStep | TrainingEvaluation | TrainingEnd, Field(discriminator="event")]


class TrainingProgress:
    """A `report` for loop.run that appends to `progress.jsonl` in the run's folder, which it begins anew. memory_mb:
    what the process has used so far."""

    def __init__(self, folder: Path, memory_mb: Callable[[], float]) -> None:
        self._path, self._memory_mb = folder / PROGRESS_FILE, memory_mb
        self._written = self._seconds = self._tokens = 0.0

    def __call__(self, event: Event) -> None:
        if event["event"] == "start":
            self._start(event)
        elif event["event"] == "step":
            self._seconds += event["seconds"]
            self._tokens += event["tokens_per_second"] * event["seconds"]
            if event["step"] == 1 or event["progress"] >= 1 or self._due:
                step = TrainingStep(
                    time=time.time(), step=event["step"], progress=event["progress"], loss=event["smoothed_loss"],
                    tokens_per_second=self._tokens / self._seconds, seconds=event["training_seconds"],
                    memory_mb=self._memory_mb(),
                )  # fmt: skip
                self._append(step)
                self._seconds = self._tokens = 0.0
        elif event["event"] == "evaluate":
            if event["done"] in (1, event["total"]) or self._due:
                self._append(TrainingEvaluation(time=time.time(), done=event["done"], total=event["total"]))

    def end(self, record: Mapping[str, Any]) -> None:
        """record: what run.json holds, or what is known of a run that came to none."""
        summary = record.get("summary") or {}
        self._append(TrainingEnd.model_validate({**summary, "time": time.time(), "status": record["status"]}))

    @property
    def _due(self) -> bool:
        return time.time() - self._written >= LINE_SECONDS

    def _start(self, event: StartEvent) -> None:
        record = event["record"]
        config = record["config"]
        stated = datasheet_flops(record["device"]["name"], config["compute_dtype"])
        start = TrainingStart(
            time=time.time(), preset=config["preset"], dataset=record["dataset"]["name"],
            parameters=event["parameters"], flops_per_token=record["model"]["flops_per_token"],
            peak_flops=stated or config["peak_flops"],
        )  # fmt: skip
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._append(start)

    def _append(self, line: Told) -> None:
        self._written = time.time()
        with suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(line.model_dump_json(exclude_none=True) + "\n")
