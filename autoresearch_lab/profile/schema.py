"""The profile as data: its schema, and reading and writing its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from autoresearch_lab import jsonfile
from autoresearch_lab.errors import LabError
from autoresearch_lab.jsonfile import StrictModel

SCHEMA = 1


class TargetTimes(StrictModel):
    """One target's part of a training step, in ms per optimizer step.

    total_ms is inclusive: it holds what the targets in `includes` took inside it; self_ms does not. flops and bytes are
    the least work that the captured calls need, floor_ms the least time for it on this machine, saveable_ms what lies
    between; null = unknown. impossible: measured faster than the floor, so one of the two is wrong.
    within: {target: how many of the calls are made by that one's}; the trainer itself makes the others.
    """

    target: str
    rank: int = Field(ge=1)
    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    total_ms: float
    self_ms: float
    share: float
    calls_per_step: float
    within: dict[str, float] = {}
    flops: float | None
    bytes: float | None
    floor_ms: float | None
    saveable_ms: float | None
    gflop_s: float | None
    gb_s: float | None
    impossible: bool = False
    includes: list[str] = []


class Elsewhere(StrictModel):
    """A named part of the time outside all targets."""

    name: str
    forward_ms: float
    backward_ms: float
    calls_per_step: float


class WorkloadReference(StrictModel):
    """Where a captured set lies (relative to the lab's root), and the hash that it must have."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    path: str
    count: int


class Named(StrictModel):
    name: str
    sha256: str


class Dataset(StrictModel):
    name: str
    fingerprint: str


class Ceilings(BaseModel):
    """What the machine can do at most, as measured; see `ceilings.ceilings`."""

    model_config = ConfigDict(extra="allow")
    copy_gb_s: list[tuple[float, float]]
    matmul_gflop_s: dict[str, float]


class Profile(StrictModel):
    """The content of profile.json. `id` is that of the ledger record (null only in the copy kept with the evidence).

    step_ms is that of plain steps; attributed_ms + unattributed_ms = sum_ms were measured in instrumented steps, and
    sum_deviation says how far the two are apart.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    id: str | None = None
    engine: str
    device: dict[str, Any]
    software: dict[str, Any]
    preset: str
    dataset: Dataset
    selection: dict[str, Named]
    steps: int
    step_ms: float = Field(gt=0)
    instrumented_step_ms: float
    step_spread: float
    tokens_per_step: int
    tokens_per_second: float
    ceilings: Ceilings
    targets: list[TargetTimes] = Field(min_length=1)
    attributed_ms: float
    unattributed_ms: float
    sum_ms: float
    sum_deviation: float
    elsewhere: list[Elsewhere]
    phases: dict[str, float]
    environment: dict[str, Any]
    workloads: dict[str, WorkloadReference]

    def require_engine(self, name: str, verb: str) -> None:
        """Raises LabError where `verb` was asked of another engine than the profile's."""
        if self.engine != name:
            raise LabError(
                f"{verb}: the profile was taken with engine {self.engine}, not {name}; "
                f"use: kernel-lab --engine {self.engine} {verb}"
            )

    def row(self, rank: int) -> TargetTimes:
        """The target of that rank.

        Raises:
            LabError: there is none.
        """
        for row in self.targets:
            if row.rank == rank:
                return row
        raise LabError(f"the profile has no rank {rank}; it ranks {len(self.targets)} targets")


def save(profile: Profile, path: Path) -> None:
    """Write profile.json.

    Raises:
        LabError: the file cannot be written.
    """
    jsonfile.save(profile.plain(), path, "profile")


def load(path: Path) -> Profile:
    """Read a profile.json.

    Raises:
        LabError: it is missing, not JSON, or not a profile of this schema; one line says which.
    """
    return jsonfile.load(Profile, path, "profile", SCHEMA, named="a profile", advice="; run profile again")
