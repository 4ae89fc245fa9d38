"""What is to be tried, how often, under which conditions, and in which order: a part of it already says something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from autoresearch_lab.bench.rule import BUDGET_SECONDS, Rule
from autoresearch_lab.errors import LabError
from autoresearch_lab.results.note import TrialId

BENCH, VERIFY, AB = "bench", "verify", "ab"
# What is planted. Null: the baseline under another hash. Faster, slower: extra work in the baseline, in the candidate.
# Gradient: 1 % too small. Precision: one lower. In the A/B, faster and both harms face a baseline with extra work.
NULL, FASTER, SLOWER, GRADIENT, PRECISION = "null", "faster", "slower", "gradient", "precision"
HARMS = (GRADIENT, PRECISION)
# Part of a training step that is planted as extra work where the A/B has to see a gain.
AB_GAIN = 0.15


@dataclass(frozen=True, order=True)
class Group:
    """Trials of one kind: `stage` judges, `plant` is what it is given, `effect` the planted share of the time."""

    stage: str
    plant: str
    effect: float = 0.0

    @property
    def label(self) -> str:
        names = {
            NULL: "null",
            FASTER: f"+{self.effect:.0%} faster",
            SLOWER: f"{self.effect:.0%} slower",
            GRADIENT: "gradient 1 % small",
            PRECISION: "one precision lower",
        }
        return f"{self.stage}: {names[self.plant]}"


@dataclass(frozen=True)
class CalibrationTrial:
    """One trial: number `number` of its group, with a kernel of `target`."""

    group: Group
    target: str
    number: int

    def recorded(self) -> TrialId:
        """As a record's settings carry it."""
        return TrialId(**asdict(self.group), target=self.target, number=self.number)

    @classmethod
    def of(cls, recorded: TrialId) -> CalibrationTrial:
        """Reads `recorded` back."""
        return cls(Group(recorded.stage, recorded.plant, recorded.effect), recorded.target, recorded.number)

    @property
    def label(self) -> str:
        return f"{self.group.label}, {self.target}, {self.number + 1}"


@dataclass(frozen=True)
class Plan:
    """How many trials of what, on which targets, and the conditions that the trials of one table share.

    trials: nulls in bench. effect_trials: per effect and direction in bench. ab_trials: nulls in the A/B. harm_trials:
    per harm, in verify and in the A/B each, and as many honest kernels beside them. effects: shares of the call's time.
    library: whether the library's kernels are timed along, as a bench does; they do not enter the verdict.
    rule: of the bench, where it is not to be the one that everybody gets.
    """

    targets: tuple[str, ...]
    ab_targets: tuple[str, ...]
    preset: str
    dataset: str = "stdlib"
    trials: int = 200
    effects: tuple[float, ...] = (0.01, 0.02, 0.03, 0.05, 0.10)
    effect_trials: int = 20
    ab_trials: int = 40
    harm_trials: int = 4
    bench_seconds: float = BUDGET_SECONDS
    library: bool = True
    race_seconds: float = 4.0
    steps: int = 100
    foreign_limit: float = 0.15
    rule: Rule | None = None

    def __post_init__(self) -> None:
        if not self.targets or not self.ab_targets:
            raise LabError("calibrate: no targets")
        if any(not 0 < effect < 1 for effect in self.effects):
            raise LabError("calibrate: effects are percentages between 0 and 100")

    def groups(self) -> dict[Group, int]:
        """Every kind of trial with the number wanted; kinds of which none is wanted are left out."""
        found = {Group(BENCH, NULL): self.trials}
        for effect in self.effects:
            found[Group(BENCH, FASTER, effect)] = self.effect_trials
            found[Group(BENCH, SLOWER, effect)] = self.effect_trials
        for plant in (NULL, *HARMS):
            found[Group(VERIFY, plant)] = self.harm_trials
        found[Group(AB, NULL)] = self.ab_trials
        found[Group(AB, FASTER, AB_GAIN)] = self.harm_trials
        for plant in HARMS:
            found[Group(AB, plant, AB_GAIN)] = self.harm_trials
        return {group: count for group, count in found.items() if count > 0}

    def schedule(self) -> list[CalibrationTrial]:
        """All trials in the order of execution: every kind is spread evenly over the whole, the targets take turns."""
        placed = []
        for place, (group, count) in enumerate(self.groups().items()):
            for number, target in zip(range(count), self._targets(group), strict=False):
                placed.append(((number + 0.5) / count, place, CalibrationTrial(group, target, number)))
        return [trial for _, _, trial in sorted(placed, key=lambda entry: entry[:2])]

    def _targets(self, group: Group) -> Iterator[str]:
        own = self.targets if group.stage == BENCH else self.ab_targets
        while True:
            yield from own

    def conditions(self, stage: str) -> dict[str, Any]:
        """What trials of a stage must have in common to be counted together, beside device and software."""
        common = {"preset": self.preset, "dataset": self.dataset}
        if stage == BENCH:
            own: dict[str, Any] = {"bench_seconds": self.bench_seconds, "library": self.library}
            return {**common, **own, **({"rule": self.rule.plain()} if self.rule else {})}
        if stage == AB:
            own = {"race_seconds": self.race_seconds, "steps": self.steps, "foreign_limit": self.foreign_limit}
            return {**common, **own}
        return common

    def plain(self) -> dict[str, Any]:
        """As a record's settings carry it."""
        fields = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {**fields, "rule": self.rule.plain() if self.rule else None}
