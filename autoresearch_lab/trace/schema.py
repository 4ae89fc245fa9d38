"""The files of a trace as data: what was traced (PREFIX.metadata.json), and whose time it was (a trace profile)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from autoresearch_lab import jsonfile
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.results.base import Dataset, Facts, KernelId
from autoresearch_lab.results.trace import Tool, TracedFile, TraceResults

SCHEMA: Literal[1] = 1


class TraceMetadata(StrictModel):
    """What was traced. `record` is the ledger id of the capture. step_ms: wall time of every traced step, the tool's
    own cost included. compiled: whether the trainer's graph was, whose inside has no ranges of targets. foreign_load:
    share of the cores that other processes used while it was traced; None = unknown."""

    schema_: Literal[1] = Field(1, alias="schema")
    record: str
    time: str
    tool: Tool
    tool_version: str | None
    engine: str
    device: Facts
    software: Facts
    preset: str
    dataset: Dataset
    selection: dict[str, KernelId]
    compiled: bool
    steps: int = Field(ge=1)
    step_ms: list[float] = Field(min_length=1)
    tokens_per_step: int
    batch_size: int
    foreign_load: float | None = None
    files: list[TracedFile] = Field(min_length=1)


class TraceProfile(TraceResults):
    """The content of a trace profile's file: what the record holds, and the device. `id` is that of the record."""

    schema_: Literal[1] = Field(1, alias="schema")
    id: str | None = None
    device: Facts

    def plain(self) -> Facts:
        """As the file holds it."""
        return self.model_dump(mode="json", by_alias=True)


class IdleGap(StrictModel):
    """A time in which a device had nothing to do. at_ms: from the first step's start. before: what came next."""

    at_ms: float
    ms: float
    before: str


class DeviceRow(StrictModel):
    """One device as one process used it, in ms per step. model, process: their names. step_ms: of the clock. busy_ms:
    in which it did anything; idle_share: of step_ms, the rest. host_bound_share: of step_ms, in which it had nothing to
    do because what came next was not launched yet; None: launches are unknown. work: kernels, copies and fills;
    launches: calls that launched some. gaps: the longest."""

    name: str
    model: str | None
    process: str | None
    streams: int
    step_ms: float
    device_ms: float
    busy_ms: float
    idle_share: float
    host_bound_share: float | None
    kinds: dict[str, float]
    work_per_step: float
    launches_per_step: float
    gaps: list[IdleGap]


class KernelRow(StrictModel):
    """A kernel (copy, fill, operator) by its whole name, in ms per step. under: the ranges that launched it, the
    busiest first. devices: its ms on each, where there are several."""

    name: str
    kind: str
    ms: float
    share: float
    calls_per_step: float
    under: list[str]
    devices: dict[str, float]


class OwnerRow(StrictModel):
    """A range, or a target, in ms of device time per step: forward_ms, backward_ms and their sum self_ms without the
    ranges inside it, total_ms with them; share: self_ms of the device time. host_ms: for which the range was open."""

    name: str
    forward_ms: float
    backward_ms: float
    self_ms: float
    total_ms: float
    share: float
    host_ms: float
    calls_per_step: float
    launches_per_step: float


class TraceSurvey(StrictModel):
    """What a trace shows that anyone may have taken. unit: what times are per; `trace` where it has no steps. steps: of
    the process that has most. device_ms: all work added up, over all devices."""

    schema_: Literal[1] = Field(1, alias="schema")
    file: str
    tool: str
    tool_version: str | None
    steps: int
    unit: Literal["step", "trace"]
    device_ms: float
    attributed_share: float
    devices: list[DeviceRow]
    kernels: list[KernelRow]
    ranges: list[OwnerRow]
    targets: list[OwnerRow]
    remarks: list[str]


class TraceChange(StrictModel):
    """One device, range or kernel in both traces, in ms per step; None: it is not in that one. Devices: the clock's
    time of a step; ranges: with the ranges inside, forward and backward."""

    name: str
    a_ms: float | None
    b_ms: float | None
    change_ms: float
    a_calls: float | None
    b_calls: float | None


class TraceDifference(StrictModel):
    """What changed from trace A to trace B, the largest change first."""

    schema_: Literal[1] = Field(1, alias="schema")
    a: str
    b: str
    unit: Literal["step", "trace"]
    devices: list[TraceChange]
    ranges: list[TraceChange]
    kernels: list[TraceChange]
    remarks: list[str]


def save(content: TraceMetadata | TraceProfile | TraceSurvey | TraceDifference, path: Path, what: str) -> None:
    """Write it as JSON.

    Raises:
        LabError: the file cannot be written; `what` begins the message.
    """
    jsonfile.save(content.plain(), path, what)


def load_metadata(path: Path, what: str) -> TraceMetadata:
    """Read a PREFIX.metadata.json.

    Raises:
        LabError: it is missing, not JSON, or not metadata of this schema; `what` begins the line that says which.
    """
    return jsonfile.load(TraceMetadata, path, what, SCHEMA, named="the metadata of a capture")
