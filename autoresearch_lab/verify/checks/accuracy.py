"""Catches a wrong or imprecise forward result on the calls that the trainer makes, with its real values and with fresh
ones: at most `factor` times as wrong as the baseline, by element, by row and as a whole."""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.result import judge
from autoresearch_lab.verify.checks.stale import stale_results
from autoresearch_lab.verify.comparisons import Comparisons

NAME = "accuracy"


def check(evidence: Comparisons) -> CheckResult:
    stale = stale_results(evidence)
    return judge(
        [
            comparison
            for case in evidence.group("accuracy")
            for comparison in evidence.comparisons(case)
            if comparison.name.kind == "output" and (case.id, comparison.step, comparison.name) not in stale
        ]
    )
