"""Simulated benches: how often the rule is wrong, and how often it finds what is there, under noise of known size.

The noise has what real timings have: levels that differ between processes (for each arm by itself), slow drift that all
arms share, disturbances that outlast a round, and bursts of foreign load that hit one sample.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from autoresearch_lab.bench.rule import AMBIGUOUS, Rule, decide, find, looks_within


@dataclass(frozen=True)
class Noise:
    """Standard deviations of log times. level: of the candidate's ratio between processes; level_df: degrees of freedom
    of its t distribution (heavy tails); modes: a two-valued level ("the process came up fast or slow") instead of a
    smooth one. rounds: per process. shared: of drift common to all arms; own: of each arm's rounds; correlation: of
    neighbouring rounds, for both; bursts: chance that a sample is hit; burst: mean of the hit (exponential)."""

    level: float = 0.005
    level_df: float = 30.0
    modes: bool = False
    rounds: int = 12
    shared: float = 0.05
    own: float = 0.03
    correlation: float = 0.5
    bursts: float = 0.05
    burst: float = 0.5

    def series(self, rng: np.random.Generator, deviation: float) -> np.ndarray:
        """Autoregressive noise of one process with the given standard deviation."""
        white = rng.standard_normal(self.rounds + 20) * deviation * math.sqrt(1 - self.correlation**2)
        return lfilter([1.0], [1.0, -self.correlation], white)[20:]

    def process(self, rng: np.random.Generator, effect: float) -> tuple[np.ndarray, np.ndarray]:
        """(log-ratios of both arms of the baseline and the candidate, log-ratios of baseline and control) of one
        process's rounds."""
        drift = self.series(rng, self.shared)
        arms = []
        for _ in range(3):
            hit = (rng.random(self.rounds) < self.bursts) * rng.exponential(self.burst, self.rounds)
            arms.append(drift + self.series(rng, self.own) + hit)
        if self.modes:
            level = self.level * rng.choice([-1.0, 1.0])
        else:
            level = self.level * rng.standard_t(self.level_df) / math.sqrt(self.level_df / (self.level_df - 2))
        both = np.stack([arms[0] - arms[1], arms[2] - arms[1]], axis=1).ravel()
        return both + effect + level, arms[0] - arms[2]


def simulate(effect: float, noise: Noise, rule: Rule, rng: np.random.Generator) -> tuple[str, int]:
    """(verdict, number of looks) of one bench of a candidate whose true log-ratio is `effect`."""
    groups: list[np.ndarray] = []
    control: list[np.ndarray] = []

    def take(wanted: int) -> None:
        ratio, same = noise.process(rng, effect)
        groups.append(ratio)
        control.append(same)

    for look in looks_within(rule, math.inf, take, lambda: 0.0):
        verdict, _ = decide(find(groups, control, rule.alpha(look), rule, rng), rule)
        if verdict != AMBIGUOUS:
            break
    return verdict, look + 1


def rates(effect: float, noise: Noise, rule: Rule, trials: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of every verdict over `trials` simulated benches, and "processes": the mean number that they took."""
    outcomes = [simulate(effect, noise, rule, rng) for _ in range(trials)]
    counts = Counter(verdict for verdict, _ in outcomes)
    shares = {verdict: counts[verdict] / trials for verdict in ("FASTER", "SLOWER", "SAME", "AMBIGUOUS")}
    return {**shares, "processes": float(np.mean([rule.looks[looks - 1] for _, looks in outcomes]))}
