"""What is known of a lab at one moment, read from its files alone: they may be half written, foreign, or gone again."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from autoresearch_lab import device_lock, lookup
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.orchestrate import STEPS
from autoresearch_lab.report.brief import brief, subject
from autoresearch_lab.results.record import Record
from autoresearch_lab.runs_table import HEADER
from autoresearch_lab.status import STATUS_FILES, CandidateStatus, WorkStatus
from autoresearch_lab.training_progress import (
    PROGRESS_FILE,
    TrainingEnd,
    TrainingEvaluation,
    TrainingLine,
    TrainingStart,
    TrainingStep,
)
from autoresearch_trainer.jobs.base import printable

MOST_VERDICTS, MOST_ROWS, MOST_POINTS = 40, 40, 512
# What is read of a file at a time, and of a table's end.
MOST_BYTES, TAIL_BYTES, HEAD_BYTES = 1 << 20, 1 << 14, 256
# Folders of runs, from the root: train.py's own, a trial's sides or a fit's shapes, a campaign's closing run.
RUNS = ("runs/*", "results/kernel_lab/runs/*/*", "results/kernel_lab/training/*")
_LINE: TypeAdapter[Any] = TypeAdapter(TrainingLine)
T = TypeVar("T")


@dataclass(frozen=True)
class WorkView:
    """A verb at work, or the last one on its device. state: running, ended, or killed; left: seconds that the stage
    will take at this pace; candidates_left: those that all steps will take at most, by what each took so far;
    unknown: steps that come and have not been timed yet."""

    verb: str
    device: str
    state: str
    seconds: float
    about: str
    stage: str
    done: float | None
    total: float | None
    left: float | None
    candidates: list[CandidateStatus]
    candidates_left: float
    unknown: list[str]
    log: list[str]


@dataclass(frozen=True)
class TrainingView:
    """A training run. state: running, evaluating, killed, or the status that it ended with; left: seconds of training
    that are left; points: (seconds of training, smoothed loss)."""

    name: str
    state: str
    preset: str
    dataset: str
    parameters: int
    step: int
    progress: float
    loss: float | None
    tokens_per_second: float | None
    mfu_percent: float | None
    memory_mb: float | None
    val_bpb: float | None
    left: float | None
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class VerdictView:
    record: str
    time: str
    kind: str
    subject: str
    verdict: str
    found: str


@dataclass(frozen=True)
class Snapshot:
    """holders: who has which device of this machine; rows: of the tables of runs, the newest last, as `HEADER` names
    their fields; problems: what could not be read, in words."""

    root: str
    at: float
    holders: dict[str, list[str]] = field(default_factory=dict)
    work: list[WorkView] = field(default_factory=list)
    training: TrainingView | None = None
    verdicts: list[VerdictView] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        work = [{**asdict(each), "candidates": [row.model_dump() for row in each.candidates]} for each in self.work]
        return {**asdict(self), "work": work}


class Watcher:
    """Reads a lab again and again; what is known is not read twice."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._root = lab, lab.root
        self._work: dict[Path, _Kept[WorkStatus]] = {}
        self._trainings: dict[Path, _TrainingFile] = {}
        self._rows: dict[Path, _Kept[list[dict[str, str]]]] = {}
        self._verdicts = _Kept[list[VerdictView]](lambda path: self._read_verdicts())

    def read(self) -> Snapshot:
        problems: list[str] = []
        try:
            verdicts = self._verdicts.read(self._root.ledger)
            if verdicts is None:  # there is none, or something else is there, which the ledger says
                verdicts = self._read_verdicts()
        except LabError as error:
            verdicts, problems = [], [printable(str(error))]
        return Snapshot(
            root=str(self._root.path),
            at=time.time(),
            holders={name: [printable(str(one)) for one in found] for name, found in device_lock.all_holders().items()},
            work=self._read_work(),
            training=self._read_training(),
            verdicts=verdicts,
            rows=self._read_rows(),
            problems=problems,
        )

    def _read_work(self) -> list[WorkView]:
        paths = sorted(self._root.results.glob(STATUS_FILES))
        self._work = {path: self._work.get(path) or _Kept(_status) for path in paths}
        found = [work for path, kept in self._work.items() if (work := kept.read(path)) is not None]
        return sorted(map(_work_view, found), key=lambda view: (view.state != "running", view.seconds))

    def _read_training(self) -> TrainingView | None:
        """The run that was written to last."""
        paths = (path / PROGRESS_FILE for pattern in RUNS for path in self._root.path.glob(pattern))
        times = {path: found for path in paths if (found := _changed(path)) is not None}
        self._trainings = {path: file for path, file in self._trainings.items() if path in times}
        for path in sorted(times, key=lambda path: times[path], reverse=True):
            file = self._trainings.setdefault(path, _TrainingFile(path))
            if (view := file.read()) is not None:
                return view
        return None

    def _read_verdicts(self) -> list[VerdictView]:
        return [
            VerdictView(
                record=record.id, time=printable(record.time), kind=record.kind, subject=printable(_named(record)),
                verdict=record.verdict or "", found=" ".join(printable(brief(record)).split()),
            )
            for record in lookup.newest_verdicts(self._lab.ledger, MOST_VERDICTS)
        ]  # fmt: skip

    def _read_rows(self) -> list[dict[str, str]]:
        """Of the table of train.py's runs, then of that in which ideas are kept or discarded."""
        rows = []
        for path in (self._root.path / "runs" / "results.tsv", self._root.path / "results.tsv"):
            rows += self._rows.setdefault(path, _Kept(_table)).read(path) or []
        return rows[-MOST_ROWS:]


class _Kept(Generic[T]):
    """What a file says, read again only when the file has changed; None where it is gone, or cannot be read."""

    def __init__(self, read: Callable[[Path], T | None]) -> None:
        self._read = read
        self._seen: tuple[int, int, int] | None = None
        self._known: T | None = None

    def read(self, path: Path) -> T | None:
        seen = _changed(path)
        if seen != self._seen:
            self._seen = None  # should reading fail, it is tried again
            self._known = self._read(path) if seen is not None else None
            self._seen = seen
        return self._known


class _TrainingFile:
    """One progress.jsonl. Each refresh reads what was appended, up to MOST_BYTES; one that was begun anew is, too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._head, self._offset, self._torn = b"", 0, b""
        self._start: TrainingStart | None = None
        self._step: TrainingStep | None = None
        self._end: TrainingEnd | None = None
        self._evaluates = False
        self._points: list[tuple[float, float]] = []
        self._every, self._steps = 1, 0

    def read(self) -> TrainingView | None:
        """None where the file is gone, or is not one of a training."""
        try:
            with open(self._path, "rb") as file:
                head = file.read(HEAD_BYTES)  # names the process: numbers of files are given again
                if not head.startswith(self._head) or os.fstat(file.fileno()).st_size < self._offset:
                    self._forget()
                self._head = head
                file.seek(self._offset)
                fresh = file.read(MOST_BYTES)
        except OSError:
            return None
        self._offset += len(fresh)
        *lines, self._torn = (self._torn + fresh).split(b"\n")
        self._torn = self._torn[-MOST_BYTES:]  # of a file without line ends
        for line in lines:
            self._take(line)
        return self._view(self._start) if self._start is not None else None

    def _take(self, line: bytes) -> None:
        try:
            told = _LINE.validate_json(line)
        except ValidationError:  # of a later version, cut off, or nothing of ours
            return
        if isinstance(told, TrainingStart):
            self._start = told
        elif isinstance(told, TrainingStep):
            self._step, self._evaluates = told, False
            if self._steps % self._every == 0:
                self._points.append((told.seconds, told.loss))
            self._steps += 1
            if len(self._points) > MOST_POINTS:
                self._points, self._every = self._points[::2], 2 * self._every
        elif isinstance(told, TrainingEvaluation):
            self._evaluates = True
        else:
            self._end = told

    def _view(self, start: TrainingStart) -> TrainingView:
        step, end = self._step, self._end
        rate = end.tokens_per_second if end else step.tokens_per_second if step else None
        share = end.mfu_percent if end else None
        if share is None and rate and start.peak_flops:
            share = 100 * rate * start.flops_per_token / start.peak_flops
        running = "evaluating" if self._evaluates else "running"
        pace = step.seconds / step.progress if step and step.progress else None
        return TrainingView(
            name=self._path.parent.name,
            state=end.status if end else running if start.lives else "killed",
            preset=start.preset,
            dataset=start.dataset,
            parameters=start.parameters,
            step=step.step if step else 0,
            progress=step.progress if step else 0.0,
            loss=step.loss if step else None,
            tokens_per_second=rate,
            mfu_percent=share,
            memory_mb=(end.peak_vram_mb if end else None) or (step.memory_mb if step else None),
            val_bpb=end.val_bpb if end else None,
            left=pace * (1 - step.progress) if step and pace and not end else None,
            points=[*self._points],
        )


def _named(record: Record) -> str:
    """What was judged; with the kernel's name where there is one."""
    return subject(record) + (f"={record.kernel.name}" if record.target and record.kernel else "")


def _changed(path: Path) -> tuple[int, int, int] | None:
    """What is another one when a file has changed; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _status(path: Path) -> WorkStatus | None:
    try:
        with open(path, "rb") as file:
            return WorkStatus.model_validate_json(file.read(MOST_BYTES))
    except (OSError, ValidationError):
        return None


def _table(path: Path) -> list[dict[str, str]]:
    """The end of a results.tsv, as far as its lines are such."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    lines = [tuple(printable(cell) for cell in line.split("\t")) for line in text.split("\n")]
    return [dict(zip(HEADER, line, strict=True)) for line in lines if len(line) == len(HEADER) and line != HEADER]


def _work_view(work: WorkStatus) -> WorkView:
    now, running = time.time(), not work.ended and work.lives
    left = None
    if running and work.done and work.total and work.stage_began is not None:
        left = max(0.0, (now - work.stage_began) * (work.total - work.done) / work.done)
    seconds, unknown = 0.0, set()
    for row in work.candidates if running else ():
        coming = STEPS[STEPS.index(row.step) :] if row.step in STEPS else ()
        for step in coming:
            took = work.took.get(step)
            if took:
                spent = now - row.since if row.since is not None and step == row.step else 0.0
                seconds += max(0.0, sum(took) / len(took) - spent)
            elif step in ("verify", "bench", "ab"):  # the others take no time to speak of
                unknown.add(step)
    return WorkView(
        verb=work.verb,
        device=work.device,
        state="ended" if work.ended else "running" if running else "killed",
        seconds=(now if running else work.told) - work.began,
        about=work.about,
        stage=work.stage,
        done=work.done,
        total=work.total,
        left=left,
        candidates=work.candidates,
        candidates_left=seconds,
        unknown=[step for step in STEPS if step in unknown],
        log=work.log,
    )
