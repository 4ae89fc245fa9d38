"""The files of a trace as data: what was traced (PREFIX.metadata.json), and whose time it was (a trace profile)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from autoresearch_lab import jsonfile
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.profile.schema import Dataset, Named

SCHEMA = 1
Tool = Literal["nsys", "torch"]


class TracedFile(StrictModel):
    """A file beside the metadata, so that a trace can be moved as a whole. name: without a folder."""

    name: str = Field(pattern=r"^[^/\\]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


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
    device: dict[str, Any]
    software: dict[str, Any]
    preset: str
    dataset: Dataset
    selection: dict[str, Named]
    compiled: bool
    steps: int = Field(ge=1)
    step_ms: list[float] = Field(min_length=1)
    tokens_per_step: int
    batch_size: int
    foreign_load: float | None = None
    files: list[TracedFile] = Field(min_length=1)


class TargetTime(StrictModel):
    """One target's device time in ms per step. forward_ms, backward_ms and optimizer_ms are without the targets inside
    it, self_ms is their sum; total_ms is with them. share: of the device time. calls: ranges of its forward per step;
    launches: kernels, copies and fills per step (operators on a CPU)."""

    target: str
    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    self_ms: float
    total_ms: float
    share: float
    calls_per_step: float
    launches_per_step: float


class KernelTime(StrictModel):
    """One kernel (copy, fill, operator) by name, in ms per step. under: the targets' ranges that launched it, the
    busiest first."""

    name: str
    kind: str
    ms: float
    share: float
    calls_per_step: float
    under: list[str]


class DeviceTimes(StrictModel):
    """Whose time the device's was, per traced step.

    step_ms: wall time of a step while traced. device_ms: all work added up = the targets' self_ms + unattributed_ms;
    busy_ms: time in which the device did anything; idle_share: of the steps, the rest. phases: device_ms by the phase
    in which the work was launched, unattributed_phases likewise; kinds: by kind of work. unlaunched_ms: work whose
    launching call the trace lacks.
    """

    steps: int = Field(ge=1)
    step_ms: float = Field(gt=0)
    device_ms: float
    busy_ms: float
    idle_share: float
    attributed_ms: float
    unattributed_ms: float
    unattributed_share: float
    unattributed_phases: dict[str, float]
    unlaunched_ms: float
    phases: dict[str, float]
    kinds: dict[str, float]
    launches_per_step: float
    targets: list[TargetTime]
    kernels: list[KernelTime]


class TraceProfile(DeviceTimes):
    """What a trace shows, and where it comes from. foreign_load: as in the metadata. `id` is that of the ledger
    record."""

    schema_: Literal[1] = Field(1, alias="schema")
    id: str | None = None
    capture: str
    tool: Tool
    engine: str
    device: dict[str, Any]
    preset: str
    compiled: bool
    foreign_load: float | None = None
    remarks: list[str]


def save(content: TraceMetadata | TraceProfile, path: Path, what: str) -> None:
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
