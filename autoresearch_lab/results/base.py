"""What the types of several kinds share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# What an engine says of its device and its software. Both hold "key", by which evidence is found; the rest differs from
# engine to engine and is shown as it is.
Facts = dict[str, Any]
# [low, high] of a ratio or a difference.
Ends = tuple[float, float]
# Whether the trainer's graph goes through torch.compile (mx.compile): it does not, or it does.
Mode = Literal["eager", "compiled"]

SHA256 = r"^[0-9a-f]{64}$"
# Times in ms (a day is 8.64e7), what is counted, and what is reckoned in FLOP, bytes or units of them: never less than
# nothing, nor more than any machine does.
Ms = Annotated[float, Field(ge=0, le=1e8)]
Amount = Annotated[float, Field(ge=0, le=1e12)]
Work = Annotated[float, Field(ge=0, le=1e24)]
# What remains of a whole in ms when its measured parts are taken away.
Rest = Annotated[float, Field(ge=-1e8, le=1e8)]


class Typed(BaseModel):
    """A part of a record. A key that it does not know is an error; so is NaN, which JSON cannot carry."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, populate_by_name=True, defer_build=True)

    def plain(self) -> Facts:
        """As JSON has it, without what was left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class KernelId(Typed):
    """Which kernel a record speaks of: its name is for people, its content hash is what counts."""

    name: str
    sha256: str = Field(pattern=SHA256)


class Artifact(Typed):
    """A file that belongs to a record, with the hash that it had when the record was written. path: from the root."""

    path: str
    sha256: str = Field(pattern=SHA256)


class Dataset(Typed):
    """The data that was trained on. fingerprint: of its tokens and of its tokenizer."""

    name: str
    fingerprint: str = ""


class WorkloadReference(Typed):
    """Where a captured set lies (relative to the lab's root), its content hash, how many calls it holds, and the record
    of the profile that captured it, where that is known."""

    sha256: str = Field(pattern=SHA256)
    path: str
    count: int = 0
    profile: str | None = None


class Workloads(Typed):
    """The captured calls that a record rests on. sha256: of the calls and their samples; count: of calls; profile: the
    record that captured them; data: what was trained on then."""

    sha256: str
    count: int = 0
    profile: str | None = None
    data: Dataset | None = None


class Place(Typed):
    """Who carried a step out, where that was not this process. name: of the executor; niceness: of its process."""

    name: str
    node: str
    niceness: int | None = None


class Ceilings(Typed):
    """What a machine can do at most, as measured.

    copy_gb_s: [working set in bytes, GB/s] for rising sizes; patterns: the same by pattern of traffic, whose best it
    is. matmul_gflop_s: GFLOP/s by dtype. threads: used. record: ledger id of the newest measurement; measurements: how
    many there are. unknown: why nothing could be measured.
    """

    copy_gb_s: list[tuple[Work, Amount]] = []
    matmul_gflop_s: dict[str, Amount] = {}
    patterns: dict[str, list[tuple[Work, Amount]]] = {}
    threads: int | None = None
    record: str | None = None
    measurements: int | None = None
    unknown: str | None = None
