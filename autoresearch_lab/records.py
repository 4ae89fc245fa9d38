"""The schema of one ledger record."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA = 1

Kind = Literal["profile", "capture", "trace", "review", "compile", "verify", "bench", "ab", "promote", "demote", "note"]

VERDICTS: dict[str, frozenset[str]] = {
    "verify": frozenset({"PASS", "FAIL"}),
    "bench": frozenset({"FASTER", "SLOWER", "SAME", "AMBIGUOUS"}),
    "ab": frozenset({"PROMOTE", "REJECT", "UNDECIDED"}),
}


class KernelId(BaseModel):
    """Which kernel a record speaks of: its name is for people, its content hash is what counts."""

    model_config = ConfigDict(extra="forbid")
    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Artifact(BaseModel):
    """A file that belongs to a record, with the hash that it had when the record was written."""

    model_config = ConfigDict(extra="forbid")
    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Record(BaseModel):
    """One line of the ledger.

    `id` is the SHA-256 of everything else in the record, `prev` the id of the record before (null for the first), so
    that a line changed or taken out later breaks the chain. Keys that do not apply are null.
    """

    # Not-a-number must fail loudly when the line is written, not turn into null.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")
    schema_: int = Field(SCHEMA, alias="schema")
    id: str
    prev: str | None
    time: str
    kind: Kind
    engine: str | None = None
    device: dict[str, Any] | None = None
    software: dict[str, Any] | None = None
    commit: str | None = None
    target: str | None = None
    kernel: KernelId | None = None
    workloads: dict[str, Any] | None = None
    seeds: dict[str, Any] | list[int] | None = None
    settings: dict[str, Any] | None = None
    results: dict[str, Any] | None = None
    verdict: str | None = None
    artifacts: list[Artifact] | None = None

    @model_validator(mode="after")
    def _verdict_fits_kind(self) -> Record:
        allowed = VERDICTS.get(self.kind)
        if allowed is None and self.verdict is not None:
            raise ValueError(f"a {self.kind} record carries no verdict")
        if allowed is not None and self.verdict not in allowed:
            raise ValueError(f"a {self.kind} record needs a verdict out of {sorted(allowed)}, not {self.verdict!r}")
        return self

    def plain(self) -> dict[str, Any]:
        """The record as JSON-able data with the key names of the file."""
        return self.model_dump(mode="json", by_alias=True)
