"""What a verb that measures says of itself while it goes on, in a small file beside the ledger for whoever looks on.

It is replaced as a whole, and says that it ended. It is no evidence and nothing rests on it, so it is not flushed to
the disk, and a disk that takes no more of it is no reason to end the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from autoresearch_lab.device_lock import alive
from autoresearch_trainer.jobs.base import printable

STATUS_FILES = "status-*.json"
# The least seconds between two counts of a stage.
COUNT_SECONDS = 1.0
MOST_LINES = 200

# What is read may have been written by anybody: text is short and of one line, numbers are finite and not huge.
Line = Annotated[
    str, StringConstraints(max_length=1000), AfterValidator(lambda text: " ".join(printable(text).split()))
]
Number = Annotated[float, Field(ge=-1e18, le=1e18)]
Whole = Annotated[int, Field(ge=0, le=10**15)]


class Told(BaseModel):
    """A part of a file of this kind."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, defer_build=True)


class Teller(Told):
    """Whose file it is. process_started: in seconds since the epoch, for numbers of processes are given again."""

    process: Whole = Field(default_factory=os.getpid)
    process_started: Number = Field(default_factory=lambda: psutil.Process().create_time())

    @property
    def lives(self) -> bool:
        return alive(self.process, self.process_started)


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
