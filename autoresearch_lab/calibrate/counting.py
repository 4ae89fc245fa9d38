"""Counts over trials, and what they say of the promises. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import betaincinv

from autoresearch_lab.calibrate.plan import AB, BENCH, FASTER, HARMS, NULL, SLOWER, VERIFY, CalibrationTrial, Group
from autoresearch_lab.results.note import CountedPromise, CountedShare, CountedTrials, TrialResults

CONFIDENCE = 0.95
# What is promised: nulls called FASTER at most this often; a true gain of this much found at least that often, each
# time within so many seconds.
FALSE_FASTER, GAIN, POWER, SECONDS = 0.01, 0.05, 0.90, 60.0
HELD, BROKEN, OPEN = "held", "broken", "open"
# An A/B that foreign load ended: it concluded nothing, so no promise rests on it.
DISTURBED = "DISTURBED"


@dataclass(frozen=True)
class Share:
    """`count` out of `total`, with the exact (Clopper-Pearson) interval of the underlying rate, both ends together at
    CONFIDENCE."""

    count: int
    total: int

    @property
    def rate(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """(0, 1) where there were no trials."""
        tail = (1.0 - CONFIDENCE) / 2
        low = betaincinv(self.count, self.total - self.count + 1, tail) if self.count else 0.0
        high = betaincinv(self.count + 1, self.total - self.count, 1.0 - tail) if self.count < self.total else 1.0
        return float(low), float(high)

    def recorded(self) -> CountedShare:
        return CountedShare(count=self.count, total=self.total, rate=self.rate, interval=self.interval)


@dataclass(frozen=True)
class TrialCount:
    """All trials of one kind. verdicts: how often each was given (FAILED = the stage gave up); seconds: of each trial;
    in_time: how often FASTER came within the promised time."""

    group: Group
    planned: int
    verdicts: dict[str, int]
    seconds: tuple[float, ...]
    in_time: int

    @property
    def done(self) -> int:
        return len(self.seconds)

    @property
    def complete(self) -> bool:
        return self.done >= self.planned

    @property
    def mean(self) -> float | None:
        return sum(self.seconds) / self.done if self.done else None

    @property
    def worst(self) -> float | None:
        return max(self.seconds, default=None)

    def share(self, verdict: str) -> Share:
        return Share(self.verdicts.get(verdict, 0), self.done)

    def recorded(self) -> CountedTrials:
        return CountedTrials(
            stage=self.group.stage,
            plant=self.group.plant,
            effect=self.group.effect,
            label=self.group.label,
            planned=self.planned,
            done=self.done,
            verdicts=self.verdicts,
            shares={verdict: self.share(verdict).recorded() for verdict in self.verdicts},
            in_time=self.in_time,
            seconds={"mean": self.mean, "worst": self.worst},
        )


@dataclass(frozen=True)
class PromiseCount:
    """A promise, whether the trials bear it out, and the count it rests on. `wanted` bounds the rate: from above, or
    from below where `least` is set."""

    text: str
    share: Share
    wanted: float
    complete: bool
    least: bool = False

    @property
    def state(self) -> str:
        """held or broken by the observed rate once all planned trials are done; broken before that only where the
        interval rules the promise out; else open."""
        rate, (low, high) = self.share.rate, self.share.interval
        if rate is None:
            return OPEN
        if self.complete:
            kept = rate >= self.wanted if self.least else rate <= self.wanted
            return HELD if kept else BROKEN
        # Where nothing at all is allowed, a single case is one too many.
        outside = high < self.wanted if self.least else (low > self.wanted if self.wanted else self.share.count > 0)
        return BROKEN if outside else OPEN

    def recorded(self) -> CountedPromise:
        return CountedPromise(text=self.text, state=self.state, wanted=self.wanted, **dict(self.share.recorded()))


def count(planned: Mapping[Group, int], outcomes: Sequence[tuple[CalibrationTrial, TrialResults]]) -> list[TrialCount]:
    """A row for every planned kind, in that order. outcomes: (trial, its results)."""
    rows = []
    for group, wanted in planned.items():
        found = [results for trial, results in outcomes if trial.group == group]
        verdicts: dict[str, int] = {}
        for results in found:
            verdict = DISTURBED if _concluded_nothing(results) else results.verdict
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
        in_time = sum(results.verdict == "FASTER" and results.seconds <= SECONDS for results in found)
        seconds = tuple(results.seconds for results in found)
        rows.append(TrialCount(group, wanted, dict(sorted(verdicts.items())), seconds, in_time))
    return rows


def _concluded_nothing(results: TrialResults) -> bool:
    """Whether foreign load ended an A/B. A bench has "disturbed", too: its counts of interrupted calls."""
    return results.disturbed is True


# Verdicts that no trial of that kind should get, by (stage, plant).
WRONG = {
    (BENCH, NULL): ("FASTER", "SLOWER"),
    (BENCH, SLOWER): ("FASTER",),
    (BENCH, FASTER): ("SLOWER",),
    (VERIFY, NULL): ("FAIL",),
    (AB, NULL): ("PROMOTE",),
    **{(VERIFY, harm): ("PASS",) for harm in HARMS},
    **{(AB, harm): ("PROMOTE",) for harm in HARMS},
}


def wrong(outcomes: Sequence[tuple[CalibrationTrial, TrialResults]]) -> list[str]:
    """Every trial that went wrong, in words: a verdict it should not have got, or none at all."""
    found = []
    for trial, results in outcomes:
        verdict = results.verdict
        if verdict == "FAILED" or verdict in WRONG.get((trial.group.stage, trial.group.plant), ()):
            found.append(f"{trial.label}: {verdict}: {results.reason or 'no reason given'}")
    return found


def promises(
    rows: Sequence[TrialCount], outcomes: Sequence[tuple[CalibrationTrial, TrialResults]] = ()
) -> list[PromiseCount]:
    """What the verdicts promise, held against the rows; a promise that no row speaks of is left out.

    A kernel is promoted where verify passes it and the A/B promotes it. So harm is counted in pairs: the trials of
    verify and of the A/B with the same plant, target and number. What the A/B does alone is in its row and in `wrong`.
    """

    def over(text: str, stage: str, plants: Sequence[str], verdict: str, wanted: float = 0.0) -> list[PromiseCount]:
        chosen = [row for row in rows if row.group.stage == stage and row.group.plant in plants]
        if not chosen:
            return []
        tried = sum(row.done - row.verdicts.get(DISTURBED, 0) for row in chosen)
        share = Share(sum(row.verdicts.get(verdict, 0) for row in chosen), tried)
        return [PromiseCount(text, share, wanted, all(row.complete for row in chosen))]

    found = [
        *over(f"bench: a null is FASTER at most {FALSE_FASTER:.0%} of the time", BENCH, [NULL], "FASTER", FALSE_FASTER),
        *over("bench: what is slower is never FASTER", BENCH, [SLOWER], "FASTER"),
        *over("bench: what is faster is never SLOWER", BENCH, [FASTER], "SLOWER"),
    ]
    text = f"bench: a true +{GAIN:.0%} is FASTER within {SECONDS:.0f} s at least {POWER:.0%} of the time"
    for row in rows:
        if row.group == Group(BENCH, FASTER, GAIN):
            found.append(PromiseCount(text, Share(row.in_time, row.done), POWER, row.complete, least=True))
    return [
        *found,
        *over("verify: a null is not rejected", VERIFY, [NULL], "FAIL"),
        *over("verify: planted harm never passes", VERIFY, HARMS, "PASS"),
        *over("A/B: a null is not promoted", AB, [NULL], "PROMOTE"),
        *_harm_promoted(rows, outcomes),
    ]


def _harm_promoted(
    rows: Sequence[TrialCount], outcomes: Sequence[tuple[CalibrationTrial, TrialResults]]
) -> list[PromiseCount]:
    stages: dict[str, dict[tuple[str, str, int], str]] = {VERIFY: {}, AB: {}}
    for trial, results in outcomes:
        if trial.group.plant in HARMS and trial.group.stage in stages and not _concluded_nothing(results):
            stages[trial.group.stage][trial.group.plant, trial.target, trial.number] = results.verdict
    both = stages[VERIFY].keys() & stages[AB].keys()
    through = sum(stages[VERIFY][key] == "PASS" and stages[AB][key] == "PROMOTE" for key in both)
    chosen = [row for row in rows if row.group.plant in HARMS]
    if {row.group.stage for row in chosen} != {VERIFY, AB}:
        return []
    complete = all(row.complete for row in chosen)
    return [
        PromiseCount(
            "verify and A/B together: planted harm is never promoted", Share(through, len(both)), 0.0, complete
        )
    ]
