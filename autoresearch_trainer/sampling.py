"""Which calls of a kernel are checked: each by a draw of its own, from random numbers that no kernel shares.

The generator is seeded by the operating system before any kernel is loaded. A call's draw depends on no other's, so
that a check that was noticed says nothing of the next one.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping

from autoresearch_trainer.errors import ConfigError

# Of the calls of the first step, before it is known how many there are.
FIRST_RATE = 1 / 16
# Looking at a whole step costs little beside checking its calls: that part of the share, as a probability.
STEP_RATE = 1 / 4


class Sampler:
    """Checks every call with the same probability `rate`, 0 to 1."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._random = random.Random(secrets.randbits(256)).random

    def rate(self, target: str) -> float:
        """The probability of a call of that target, at present."""
        return self._rate

    def draw(self, target: str) -> bool:
        """Whether this call is checked."""
        return self._random() < self.rate(target)

    def draw_step(self) -> bool:
        """Whether it is looked at what the kernels leave alone in the step that begins."""
        return self._random() < self._rate

    def spent(self, target: str, seconds: float) -> None:
        """A check of that target took so long."""

    def end_step(self, seconds: float, calls: Mapping[str, int]) -> None:
        """A training step took so long, checks apart; calls: of each target since the start."""


class SharedSampler(Sampler):
    """Checks so many calls that checking takes `share` of the training steps' own time, in equal parts by target; what
    a target does not need, because all its calls are checked, is the others'."""

    def __init__(self, share: float) -> None:
        super().__init__(FIRST_RATE)
        self._share = share
        self._costs: dict[str, list[float]] = {}
        self._rates: dict[str, float] = {}
        self._steps = 0
        self._fastest = float("inf")

    def rate(self, target: str) -> float:
        return self._rates.get(target, self._rate)

    def draw_step(self) -> bool:
        return self._random() < STEP_RATE * self._share

    def spent(self, target: str, seconds: float) -> None:
        self._costs.setdefault(target, []).append(seconds)

    def end_step(self, seconds: float, calls: Mapping[str, int]) -> None:
        # The first step of all compiles or allocates; the fastest is what steps take.
        self._fastest = min(self._fastest, seconds)
        self._steps += 1
        # Seconds that it would take to check all calls of a step, by target; the first check of all allocates, too.
        whole: dict[str, float] = {}
        for target, count in calls.items():
            costs, per_step = self._costs.get(target), max(1, count) / self._steps
            if costs:
                whole[target] = per_step * sum(costs[1:] or costs) / len(costs[1:] or costs)
            else:
                self._rates[target] = min(1.0, 1 / per_step)  # one in a step, until it is known what that costs
        left = self._share * self._fastest * len(whole) / max(1, len(calls))
        for number, target in enumerate(sorted(whole, key=lambda name: whole[name])):
            spend = min(whole[target], left / (len(whole) - number))
            self._rates[target] = spend / whole[target] if whole[target] else 1.0
            left -= spend


def likely_at_most(checked: int) -> float | None:
    """The share of wrong calls that is not exceeded with 95 % confidence, after `checked` calls drawn at random without
    a wrong one: 3 / checked (the rule of three, since .05 = (1 - p)^n at p = 3 / n); None where none was."""
    return min(1.0, 3.0 / checked) if checked else None


def parse_rate(text: str) -> float:
    """The share that `1%` or `0.01` stands for. Raises ConfigError for anything else, 0 and more than 1."""
    try:
        rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1:
        raise ConfigError(f"{text!r} is no share of calls; give one like 1%, more than 0 and at most 100%")
    return rate
