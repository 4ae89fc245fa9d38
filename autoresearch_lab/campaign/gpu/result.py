"""What a call of the suite for a GPU finds, as data: the content of gpu.json, which a table and a page are made from.

Times are in microseconds unless their names say otherwise; `ratio` is time of an arm / time of the kernel.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

from autoresearch_lab.campaign.steps import StepEnd
from autoresearch_lab.results.base import Ceilings

SCHEMA = 3
Found = TypeVar("Found", bound=BaseModel)


class ConfinedStart(BaseModel):
    """without: what of the confinement is left out ("": nothing). not_enforced: as records say it. found: {"device",
    <kernel>, "torch.compile": None, or what went wrong}. failed: {what was left out: why it did not do}."""

    without: str
    not_enforced: list[str]
    found: dict[str, str | None]
    failed: dict[str, str]


class DatasetFound(BaseModel):
    """prepared: whether it was made just now."""

    folder: str
    prepared: bool


class TargetShare(BaseModel):
    """One target of the profile; times in ms per step."""

    target: str
    share: float | None = None
    total_ms: float | None = None
    floor_ms: float | None = None
    rank: int | None = None


class ProfileFound(BaseModel):
    """What is shown of the profile; of a rehearsal the targets' names alone. record: its ledger id."""

    targets: list[TargetShare]
    step_ms: float | None = None
    sum_deviation: float | None = None
    tokens_per_second: float | None = None
    ceilings: Ceilings | None = None
    record: str | None = None


class VerifyFound(BaseModel):
    """verdict: None where it came to none; reason: why, or what it stumbled over."""

    verdict: str | None = None
    reason: str = ""
    seconds: float = 0.0


class RatioFound(BaseModel):
    ratio: float
    interval: tuple[float, float]


class OverallFound(RatioFound):
    """What a verdict rests on: the arm to beat, against the kernel over a step of training."""

    to_beat: str


class CallFound(RatioFound):
    """One call in one direction. {arm: ...} has the baseline, the kernel and the library's kernels.

    microseconds: {arm: median time per call}; replayed: the same as replayed CUDA graphs, where taken;
    share_of_ceiling: {arm: least time that the ceiling allows / time, None = unknown}; ceiling: which one that is;
    against: {arm: its time / the kernel's}, where the record has it; ratio and interval: those against the baseline.
    """

    target: str
    kernel: str
    workload: str
    shapes: list[list[int]]
    calls_per_step: float
    direction: str
    microseconds: dict[str, float]
    replayed: dict[str, float] = {}
    share_of_ceiling: dict[str, float | None]
    ceiling: str | None
    against: dict[str, RatioFound]
    record: str


class BenchFound(VerifyFound):
    """without_compiled_arm: why that arm was left out, where it was."""

    overall: OverallFound | None = None
    rows: list[CallFound] = []
    without_compiled_arm: str | None = None


class Verified(RootModel[dict[str, VerifyFound]]):
    """{"<target>=<kernel>": ...}"""


class Benched(RootModel[dict[str, BenchFound]]):
    """{"<target>=<kernel>": ...}"""


class ArmTrained(BaseModel):
    """Summary of one training; what is not named here is kept as it came. None: not measured, or a rehearsal's."""

    model_config = ConfigDict(extra="allow")
    tokens_per_second: float | None = None
    peak_vram_mb: float | None = None
    mfu_percent: float | None = None
    mfu_measured_percent: float | None = None
    mfu_datasheet_percent: float | None = None
    training_seconds: float | None = None
    val_bpb: float | None = None
    kernels: dict[str, str] = {}
    seconds: float = 0.0


class Trained(BaseModel):
    """arms: of "baseline" and "triton" those that came through. rule: how the `chosen` targets' kernels were chosen.
    left_out: {kernel: why}; failed: {arm: why}."""

    arms: dict[str, ArmTrained]
    chosen: list[str]
    rule: str
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    speedup: float | None = None
    val_bpb_difference: float | None = None


class RangeTime(BaseModel):
    """Per step; us: None in a rehearsal."""

    calls: float
    us: float | None


class DeviceKernel(BaseModel):
    name: str
    us: float | None


class Traced(BaseModel):
    """Time on the device per step: under every range without the targets inside, of the busiest kernels, in all."""

    steps: int
    ranges: dict[str, RangeTime]
    kernels: list[DeviceKernel]
    total_us: float | None


class Counted(BaseModel):
    """Nsight Compute's readings, one row per launch: {"kernel": name on the device, metric: value}."""

    kernel: str
    workload: str
    launches: list[dict[str, str]]


class Tested(BaseModel):
    """Counts of tests; lines: of what failed; unfinished: whether time was over too soon."""

    passed: int
    failed: int
    skipped: int
    error: int
    lines: list[str]
    unfinished: bool


class GpuTests(Tested):
    """Of all tests that need a GPU."""


class BigRows(Tested):
    """Of those with arrays of 2^31 elements and more."""


class Tried(RootModel[dict[str, StepEnd]]):
    """{part: how its first try ended}"""

    @property
    def broken(self) -> dict[str, str]:
        """{part: why it was not tried with success}"""
        return {name: end.reason for name, end in self.root.items() if not end.came_through}


class PackagesFound(BaseModel):
    """missing: without which nothing runs; optional: what is missed besides; present: name and version."""

    missing: list[str] = []
    optional: list[str] = []
    present: list[str] = []


class MachineFound(BaseModel):
    """What it ran on, for people; the records carry the identity that counts."""

    model_config = ConfigDict(extra="allow")
    name: str
    software: dict[str, str | None]
    cuda: str | None = None


class GpuResult(BaseModel):
    """Of one call, or of several merged. parts: in the order in which they were done. left_out: files that the archive
    does not have. seconds: of everything."""

    model_config = ConfigDict(populate_by_name=True)
    FOUND: ClassVar[dict[str, type[BaseModel]]] = {
        "confined": ConfinedStart,
        "data": DatasetFound,
        "tries": Tried,
        "profile": ProfileFound,
        "verify": Verified,
        "bench": Benched,
        "rows": BigRows,
        "train": Trained,
        "capture": Traced,
        "counters": Counted,
        "tests": GpuTests,
    }
    schema_: int = Field(default=SCHEMA, alias="schema")
    rehearsed: bool
    started: str
    commit: str | None = None
    machine: MachineFound
    packages: PackagesFound = PackagesFound()
    device_key: str | None = None
    parts: dict[str, StepEnd]
    seconds: float = 0.0
    left_out: list[str] = []

    @field_validator("parts", mode="before")
    @classmethod
    def _types_of_found(cls, parts: Any) -> Any:
        """From JSON: what each part found is of the type that goes with its name."""
        if not isinstance(parts, dict):
            return parts
        return {name: _typed(name, part, cls.FOUND.get(name)) for name, part in parts.items()}

    def found(self, kind: type[Found]) -> Found | None:
        """What the part that finds this kind found; None where it did not come to that."""
        return next((end.found for end in self.parts.values() if isinstance(end.found, kind)), None)


def _typed(name: str, part: Any, kind: type[BaseModel] | None) -> Any:
    if isinstance(part, StepEnd) or not isinstance(part, dict):
        return part
    found = part.get("found")
    end = StepEnd.model_validate({"step": name, **part, "found": None})
    if found is not None and kind is not None:
        end.found = kind.model_validate(found)
    return end
