"""Everything that an A/B's verdict depends on and that is fixed before it starts."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

from autoresearch_lab.errors import LabError
from autoresearch_lab.results.ab import CompileChoice


@dataclass(frozen=True)
class Settings:
    """The rule's numbers. The defaults come from measured noise; docs/ab.md gives the reasons.

    looks: fresh processes (= seeds) at the first look and, if that does not decide, at the second.
    race_seconds: quiet measuring time of one process; race_limit: it may take that many times as long under load.
    block_steps: optimizer steps of one arm before the other has its turn. foreign_limit: share of the machine's cores
    that other processes may use during a pair of blocks before it is discarded and repeated.
    alpha: one-sided error of every gate at each look. speed_margin: gain that the lower bound has to exceed.
    futility_alpha: one-sided error of giving up for want of speed; it costs power, never a false promotion.
    steps: length of the fixed-token training. margin: val_bpb that a candidate may lose, in bits per byte.
    sd_floor, sd_df: s.d. of paired val_bpb differences as measured beforehand, and its degrees of freedom.
    divergence_steps: first steps that are compared with the one-ulp control; divergence_limit: allowed ratio to it.
    rounding_share: where the baseline in float32 leaves the baseline faster still, that share of its divergence counts
    as the control.
    check_steps: length of the trainings in which the candidate's calls are checked in place, one eager and one
    compiled; 0 = none. check_share: of the steps' own time that may go into it.
    clear_speed, clear_seeds: from that lower bound of the speed on so many seeds do for the equal-time comparison.
    gain_share, gain_tolerance: a realised saving under gain_share x the predicted one, less the tolerance (a fraction
    of the step), is refused.
    compile: "auto": each arm trains in its fastest mode, eager or compiled, which is found by measurement first; "on",
    "off": both arms compiled, or neither. mode_seconds: quiet measuring time of one arm in both modes.
    """

    looks: tuple[int, ...] = (4, 6)
    race_seconds: float = 8.0
    race_limit: float = 3.0
    block_steps: int = 5
    foreign_limit: float = 0.15
    alpha: float = 0.005
    speed_margin: float = 0.01
    futility_alpha: float = 0.05
    steps: int = 100
    eval_tokens: int | None = None
    margin: float = 0.003
    sd_floor: float = 0.0013
    sd_df: int = 17
    divergence_steps: int = 20
    divergence_limit: float = 4.0
    rounding_share: float = 0.5
    check_steps: int = 30
    check_share: float = 1.0
    clear_speed: float = 1.04
    clear_seeds: int = 2
    gain_share: float = 0.5
    gain_tolerance: float = 0.01
    seed: int = 1001
    compile: CompileChoice = "off"
    mode_seconds: float = 6.0

    def __post_init__(self) -> None:
        problems = {
            "looks": not self.looks or min(self.looks) < 2 or list(self.looks) != sorted(set(self.looks)),
            "race_seconds": self.race_seconds <= 0 or self.mode_seconds <= 0,
            "block_steps": self.block_steps < 1,
            "steps": self.steps < 1,
            "alpha": not 0 < self.alpha < 0.5,
            "margin": self.margin <= 0,
            "divergence_steps": self.divergence_steps < 1,
            "clear_seeds": self.clear_seeds < 2,
            "check_steps": self.check_steps < 0 or self.check_share <= 0,
        }
        wrong = [name for name, bad in problems.items() if bad]
        if wrong:
            raise LabError(f"A/B settings: {', '.join(wrong)} out of range")

    @classmethod
    def for_device(cls, device: str) -> Settings:
        """The defaults: what train.py does there. It compiles nothing with the CPU build of MLX."""
        return cls(compile="off" if device == "mlx" and sys.platform != "darwin" else "auto")

    @property
    def seeds(self) -> list[int]:
        """The seeds of the fixed-token trainings, one per process. Always the same, so that baseline runs are kept."""
        return [self.seed + index for index in range(self.looks[-1])]

    def at_attempt(self, attempt: int) -> Settings:
        """The settings of the n-th A/B of the same arms (1 = first): each further attempt halves alpha, so that all
        attempts together stay below twice the error of the first."""
        return replace(self, alpha=self.alpha / 2 ** (attempt - 1))

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "looks": list(self.looks)}
