"""The profile as data: its schema, and reading and writing its file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from autoresearch_lab import jsonfile
from autoresearch_lab.errors import LabError
from autoresearch_lab.results.base import Amount, Dataset, Facts, Ms, Rest
from autoresearch_lab.results.profile import ProfileResults, TargetTimes

SCHEMA = 1


class Profile(ProfileResults):
    """The content of profile.json: what the record holds, and where it was measured. `id` is that of the ledger record
    (null only in the copy kept with the evidence)."""

    schema_: Literal[1] = Field(1, alias="schema")
    id: str | None = None
    engine: str
    device: Facts
    software: Facts
    dataset: Dataset
    steps: int = Field(ge=0, le=10**9)
    instrumented_step_ms: Ms
    step_spread: Amount
    tokens_per_step: int = Field(ge=1, le=10**12)
    tokens_per_second: Amount
    targets: list[TargetTimes] = Field(min_length=1)
    attributed_ms: Ms
    unattributed_ms: Rest
    sum_ms: Ms
    sum_deviation: Rest

    def plain(self) -> Facts:
        """As the file holds it."""
        return self.model_dump(mode="json", by_alias=True)

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
