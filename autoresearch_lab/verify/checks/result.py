"""What a check answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from autoresearch_lab.verify.evidence import Comparison

Status = Literal["pass", "fail", "skipped", "not applicable"]
MOST_EXAMPLES = 5


@dataclass(frozen=True)
class Result:
    """Outcome of one check. `reason`: one line for people, empty for a pass; `numbers`: what it rests on, as JSON."""

    status: Status
    reason: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)

    def plain(self, name: str) -> dict[str, Any]:
        return {"name": name, "status": self.status, "reason": self.reason, **self.numbers}


def passed(**numbers: Any) -> Result:
    return Result("pass", "", numbers)


def failed(reason: str, **numbers: Any) -> Result:
    return Result("fail", reason, numbers)


def not_applicable(reason: str, **numbers: Any) -> Result:
    return Result("not applicable", reason, numbers)


def judge(comparisons: list[Comparison]) -> Result:
    """Pass if every comparison does; else the worst of the failures speaks, and some others are listed."""
    wrong = [comparison for comparison in comparisons if not comparison.passed]
    measured = [comparison for comparison in comparisons if comparison.problem is None]
    worst = max(measured, key=lambda comparison: comparison.excess, default=None)
    numbers = {
        "compared": len(comparisons),
        "wrong": len(wrong),
        "worst": worst.plain() if worst and worst.metric else None,
    }
    if not wrong:
        return passed(**numbers)
    first = max(wrong, key=lambda comparison: (comparison.problem is not None, comparison.excess))
    return failed(first.words(), **numbers, examples=[comparison.plain() for comparison in wrong[:MOST_EXAMPLES]])
