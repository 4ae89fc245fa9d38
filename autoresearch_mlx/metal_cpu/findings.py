"""What a run found wrong, in words, with the line of the kernel's source."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {  # number in state.h: name, whether it fails the kernel
    1: ("divergent-barrier", True),
    2: ("out-of-bounds-read", True),
    3: ("out-of-bounds-write", True),
    4: ("uninitialised-read", True),
    5: ("race", True),
    6: ("same-value-write", False),
    7: ("never-written", True),
    8: ("input-written", True),
    9: ("stack-overflow", True),
    10: ("wild-access", True),
    11: ("divergent-collective", False),
    12: ("inactive-lane", False),
    13: ("gap-read", True),
    100: ("order-dependent", True),
    101: ("threadgroup-memory", True),
}


@dataclass(frozen=True)
class Place:
    """A line of the kernel: `where` is "source" (the body) or "header"; line 0 where it is not known."""

    where: str
    line: int

    def __str__(self) -> str:
        return f"{self.where} line {self.line}" if self.line else "an unknown line"


@dataclass(frozen=True)
class Finding:
    """One kind of trouble at one place; `times` it happened. `fails` is false for what is only worth knowing."""

    kind: str
    message: str
    place: Place
    other: Place | None = None
    times: int = 1
    fails: bool = True

    def __str__(self) -> str:
        often = f" ({self.times} times)" if self.times > 1 else ""
        return (
            f"{self.kind} in {self.place}: {self.message}{often}"
            if self.place.line
            else (f"{self.kind}: {self.message}{often}")
        )


@dataclass(frozen=True)
class Report:
    """Everything that one call found. `build` is "fast" or "checked"; `threadgroup_bytes` is the memory declared."""

    build: str
    findings: tuple[Finding, ...]
    threadgroup_bytes: int

    @property
    def ok(self) -> bool:
        """Whether nothing was found that fails the kernel."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that fail the kernel."""
        return tuple(finding for finding in self.findings if finding.fails)

    def __str__(self) -> str:
        lines = [f"{self.build} build: {'clean' if self.ok else 'FAILED'}, {self.threadgroup_bytes} B threadgroup"]
        return "\n".join(lines + [f"  {'' if finding.fails else 'note: '}{finding}" for finding in self.findings])
