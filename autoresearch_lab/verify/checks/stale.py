"""Catches a result that belongs to other contents: a cache keyed by address, shape or a fingerprint of the values, one
output buffer that every call overwrites, or something kept from call to call of an optimizer."""

from __future__ import annotations

from itertools import combinations

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import GROUPS
from autoresearch_lab.verify.checks.result import MOST_EXAMPLES, failed, passed
from autoresearch_lab.verify.comparisons import Comparison, Comparisons
from autoresearch_trainer.jobs.calls import ResultName

NAME = "stale"


def check(evidence: Comparisons) -> CheckResult:
    found = stale_results(evidence)
    cases = evidence.group(*GROUPS)
    pairs = sum(1 for case in cases for _ in combinations([s for s in case.steps if s.judged], 2))
    for case in cases:
        for number in range(len(case.steps)):
            told = evidence.candidate.step(case, number)
            if told.crossed:
                reason = (
                    f"{told.crossed} calls whose results were all wanted at once gave other bits than by themselves"
                )
                hint = "does it keep results, or what backward needs, for calls that look alike?"
                return failed(f"{reason}: {hint} ({case.id}, {case.shapes()})", crossed=told.crossed)
            if told.followed:
                reason = f"{told.followed} calls on what the one before left gave other bits than by themselves"
                return failed(f"{reason} ({case.id}, {case.shapes()})", followed=told.followed)
    if found:
        words = [
            f"{name} in {case} step {step}: the very bits of step {other}, which had other contents"
            for (case, step, name), other in found.items()
        ]
        return failed(words[0], pairs=pairs, wrong=len(words), examples=words[:MOST_EXAMPLES])
    for case in cases:
        for number in range(len(case.steps)):
            if altered := evidence.candidate.step(case, number).altered:
                reason = f"{altered[0]} in {case.id} step {number} ({case.shapes()}) did not stay as it was returned"
                return failed(f"{reason}: it was written to later", pairs=pairs)
    return passed(pairs=pairs)


def stale_results(evidence: Comparisons) -> dict[tuple[str, int, ResultName], int]:
    """Wrong results that equal, bit for bit, the result of another step where it is right.

    {(case, step, result): the other step}; the checks of accuracy leave these to the check `stale`.
    """
    found: dict[tuple[str, int, ResultName], int] = {}
    for case in evidence.group(*GROUPS):
        verdicts = {(c.step, c.name): c.passed for c in evidence.comparisons(case) if c.name.kind != "second_gradient"}
        for (step, name), is_right in verdicts.items():
            if not is_right:
                for other in range(len(case.steps)):
                    if verdicts.get((other, name)) and evidence.same(case, step, other, name):
                        found[case.id, step, name] = other
                        break
    return found


def fresh(evidence: Comparisons, *groups: str) -> list[Comparison]:
    """The comparisons of the cases of these groups, less those of stale results."""
    stale = stale_results(evidence)
    return [
        comparison
        for case in evidence.group(*groups)
        for comparison in evidence.comparisons(case)
        if (case.id, comparison.step, comparison.name) not in stale
    ]
