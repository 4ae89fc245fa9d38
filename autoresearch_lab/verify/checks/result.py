"""What a check answers."""

from __future__ import annotations

from typing import Any

from autoresearch_lab.results.verify import CheckResult, Status
from autoresearch_lab.verify.comparisons import Comparison

MOST_EXAMPLES = 5


def passed(**found: Any) -> CheckResult:
    return result("pass", "", found)


def failed(reason: str, **found: Any) -> CheckResult:
    return result("fail", reason, found)


def not_applicable(reason: str, **found: Any) -> CheckResult:
    return result("not applicable", reason, found)


def result(status: Status, reason: str, found: dict[str, Any]) -> CheckResult:
    """What every check counts has a field of its own; the rest of what was `found` are details."""
    own = {name: value for name, value in found.items() if name in CheckResult.model_fields}
    details = {name: value for name, value in found.items() if name not in own}
    return CheckResult(status=status, reason=reason, **own, details=details)


def judge(comparisons: list[Comparison]) -> CheckResult:
    """Pass if every comparison does; else the worst of the failures speaks, and some others are listed."""
    wrong = [comparison for comparison in comparisons if not comparison.passed]
    measured = [comparison for comparison in comparisons if comparison.problem is None]
    worst = max(measured, key=lambda comparison: comparison.excess, default=None)
    numbers = {
        "compared": len(comparisons),
        "wrong": len(wrong),
        "worst": worst.recorded() if worst and worst.metric else None,
    }
    if not wrong:
        return passed(**numbers)
    first = max(wrong, key=lambda comparison: (comparison.problem is not None, comparison.excess))
    return failed(first.words(), **numbers, examples=[comparison.recorded() for comparison in wrong[:MOST_EXAMPLES]])
