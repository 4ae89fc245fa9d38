"""What verbs and trainings say of themselves while they go on, as small files for whoever looks on.

A verb that measures keeps `status-<device>.json` beside the ledger: it is replaced as a whole, and says how it ended.
A training run appends to `progress.jsonl` in its folder. Neither is evidence and nothing rests on them, so neither is
flushed to the disk, and a disk that takes no more of them is no reason to end the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from autoresearch_trainer.jobs.base import printable
from autoresearch_trainer.record import Event, StartEvent

STATUS_FILES, PROGRESS_FILE = "status-*.json", "progress.jsonl"
# The least seconds between two counts of a stage, and between two lines of a training.
COUNT_SECONDS, LINE_SECONDS = 1.0, 0.5
MOST_LINES = 200

# What is read may have been written by anybody: text is short and of one line, numbers are finite and not huge.
Line = Annotated[
    str, StringConstraints(max_length=1000), AfterValidator(lambda text: " ".join(printable(text).split()))
]
Number = Annotated[float, Field(ge=-1e18, le=1e18)]
Whole = Annotated[int, Field(ge=0, le=10**15)]


class Told(BaseModel):
    """A part of such a file."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, defer_build=True)


class Teller(Told):
    """Whose file it is. process_started: in seconds since the epoch, for numbers of processes are given again."""

    process: Whole = Field(default_factory=os.getpid)
    process_started: Number = Field(default_factory=lambda: psutil.Process().create_time())

    @property
    def lives(self) -> bool:
        try:
            return abs(psutil.Process(self.process).create_time() - self.process_started) < 1.0
        except (psutil.Error, OverflowError):
            return False


class CandidateStatus(Told):
    """Where a candidate of an orchestration stands. step: under way since `since`, or next; None: it ended with
    `reason`."""

    candidate: Line
    step: Line | None = None
    reason: Line = ""
    since: Number | None = None


class WorkStatus(Teller):
    """What a verb is doing. Times in seconds since the epoch; told: when it last said anything. about: what the stage
    is a part of; done, total: how far the stage is, in units of its own. took: seconds of each step of candidates that
    has ended, by its name."""

    verb: Line
    device: Line = ""
    began: Number = Field(default_factory=time.time)
    told: Number = Field(default_factory=time.time)
    ended: bool = False
    about: Line = ""
    stage: Line = ""
    stage_began: Number | None = None
    done: Number | None = None
    total: Number | None = None
    candidates: Annotated[list[CandidateStatus], Field(max_length=1000)] = []
    took: dict[Line, list[Number]] = {}
    log: Annotated[list[Line], Field(max_length=MOST_LINES)] = []


class StatusFile:
    """Keeps a verb's status; in no file where `path` is None, nor before there is something to tell."""

    def __init__(self, verb: str, device: str = "", path: Path | None = None) -> None:
        self.now = WorkStatus(verb=verb, device=device, about=verb)
        self._path, self._written = path, 0.0

    def stage(self, stage: str, about: str | None, done: float | None, total: float | None) -> None:
        """What a job is at, as it is shown; the counts of one stage not more often than once a second. about: what it
        is a part of, where that is not what was told before."""
        now, stage = self.now, stage[:1000]
        fresh = stage != now.stage or about not in (None, now.about)
        if fresh:
            now.stage, now.stage_began, now.about = stage, time.time(), about or now.about
        now.done, now.total = done, total
        if fresh or time.time() - self._written >= COUNT_SECONDS:
            self._write()

    def line(self, text: str) -> None:
        """A line that the user is told."""
        self.now.log = [*self.now.log, text[:1000]][-MOST_LINES:]
        self._write()

    def step(self, candidate: str, step: str, states: Iterable[CandidateStatus]) -> None:
        """A step of a candidate begins. states: where all of them stand, those that are under way too."""
        now, at, name = self.now, time.time(), step.partition(" ")[0]  # without the words on where
        running = {row.candidate: row for row in now.candidates if row.since is not None}
        now.candidates = []
        for row in states:
            before = running.get(row.candidate)
            if row.candidate == candidate:
                row = row.model_copy(update={"step": name, "since": at})
            elif before is not None and before.step == row.step:
                row = row.model_copy(update={"since": before.since})
            if before is not None and before.step and before.since is not None and row.since != before.since:
                now.took = {**now.took, before.step: [*now.took.get(before.step, []), at - before.since]}
            now.candidates.append(row)
        now.about, now.stage, now.stage_began = f"{step} {candidate}", "", None
        now.done = now.total = None
        self._write()

    def end(self) -> None:
        self.now.ended = True
        if self._written:
            self._write()

    def _write(self) -> None:
        self._written = self.now.told = time.time()
        if self._path is None:
            return
        unfinished = self._path.with_name(f".{self._path.name}")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(self.now.model_dump_json(), encoding="utf-8")
            os.replace(unfinished, self._path)


@contextmanager
def reporting(folder: Path, verb: str, device: str) -> Iterator[StatusFile]:
    """The status file of a verb in `folder`, told its end as well; one per device, whose lock is held meanwhile."""
    status = StatusFile(verb, device, folder / STATUS_FILES.replace("*", device))
    try:
        yield status
    finally:
        status.end()


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
        from autoresearch_trainer.summary import datasheet_flops  # not at the top, so that --help stays quick

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
