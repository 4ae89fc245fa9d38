"""The files of a trace as data: what was traced (PREFIX.metadata.json), and whose time it was (a trace profile)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from autoresearch_lab import jsonfile
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.results.base import Dataset, Facts, KernelId
from autoresearch_lab.results.trace import Tool, TracedFile, TraceResults

SCHEMA = 1


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
