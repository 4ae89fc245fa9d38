"""Records of kind "verify": is the kernel right?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoresearch_lab.results.base import Facts, KernelId, Place, Typed

Status = Literal["pass", "fail", "not applicable", "skipped"]


class VerifySeeds(Typed):
    """verify: of all shapes and values; drawn: by the system, not by the caller, as it must be to mean anything."""

    verify: int
    drawn: bool = True


class VerifySettings(Typed):
    """What the kernel was held against.

    factor, floor (by dtype): allowed error relative to the trusted implementations', and what is allowed in any case.
    trusted: the implementations whose errors count, the baseline first. seconds: how long its process might be
    quiet. interpreted: a GPU's kernel ran on the CPU. not_enforced: what of the confinement this system cannot do.
    workspace: its folder from the root; None for a kernel of the catalogue. calibration: "planted" where no such
    verification was made (see `calibrate`).
    """

    contract_sha256: str | None = None
    factor: float | None = None
    floor: dict[str, float] = {}
    baseline: KernelId | None = None
    trusted: list[KernelId] = []
    seconds: float | None = None
    interpreted: bool = False
    not_enforced: list[str] = []
    workspace: str | None = None
    executor: Place | None = None
    calibration: str | None = None


class ComparedResult(Typed):
    """One result of one step of a case held against the oracle. error, baseline_error, allowed: in `metric`, relative
    to the result's scale; problem: in words, where no number says it."""

    case: str
    step: int
    contents: str
    result: str
    arguments: str
    metric: str
    error: float
    baseline_error: float
    allowed: float
    problem: str | None = None


class FoundFactor(Typed):
    """A common factor in one result's error, b = <error, reference> / <reference, reference>, without a unit; of an
    argument updated in place the reference is its change. result: its name; arguments: as `ComparedResult` has them.
    standard_error: of b. trusted: the largest of the trusted implementations, with its standard error; allowed: of an
    honest kernel; smallest: what would have failed."""

    case: str
    step: int
    result: str
    arguments: str
    factor: float
    standard_error: float
    trusted: float
    allowed: float
    smallest: float


class CheckResult(Typed):
    """How one check ended.

    reason: one line for people; empty for a pass. compared, calls, cases, pairs: how many of these it looked at; wrong:
    how many were wrong. worst: the largest error relative to what is allowed; examples: some of those that are wrong,
    as they are or in words. details: what this check says besides.
    """

    name: str = ""
    status: Status
    reason: str = ""
    compared: int | None = None
    calls: int | None = None
    cases: int | None = None
    pairs: int | None = None
    wrong: int | None = None
    worst: ComparedResult | None = None
    examples: list[ComparedResult | str] = []
    details: Facts = {}

    @property
    def counted(self) -> str:
        """How many of what it looked at, for people; empty where it counts nothing."""
        for name, what in (("compared", "results"), ("calls", "calls"), ("cases", "cases"), ("pairs", "pairs")):
            if getattr(self, name) is not None:
                return f"{getattr(self, name)} {what}"
        return ""


class VerifyResults(Typed):
    """What the checks found.

    failed_check, reason: of the first check that failed; next_step: what to look at, and the command that makes the
    same calls again. error_ratio: the worst error / what is allowed; None where
    nothing could be compared. cases: how many were drawn. not_judged: {case or result: why it says nothing}.
    factors: per result the call on which the smallest common factor would have been found. launches: of Metal
    kernels on the CPU, by build. configurations: of tuned kernels, as far as they are kept;
    configurations_left_out: how many are not. diet: what the kernel's source does beyond what a kernel needs, a line
    each; it decides nothing. duration_seconds: of the whole verification.
    """

    failed_check: str | None = None
    reason: str = ""
    next_step: str = ""
    error_ratio: float | None = None
    checks: list[CheckResult] = []
    cases: int = 0
    not_judged: dict[str, str] = {}
    factors: list[FoundFactor] = []
    launches: dict[str, int] | None = None
    configurations: list[Facts] = []
    configurations_left_out: int = Field(default=0, ge=0)
    diet: list[str] = []
    duration_seconds: float | None = None
