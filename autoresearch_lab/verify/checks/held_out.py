"""Catches a kernel made for the shapes and seeds that its author could see: shapes and values drawn just now, from a
seed that only the record of this run tells."""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.odd import DECLINED
from autoresearch_lab.verify.checks.result import failed, judge
from autoresearch_lab.verify.checks.stale import stale_results
from autoresearch_lab.verify.comparisons import Comparisons

NAME = "held_out"


def check(evidence: Comparisons) -> CheckResult:
    cases = [case for case in evidence.cases if case.group == "held_out" and evidence.usable(case)]
    declined = []
    for case in cases:
        raised = evidence.error(case)
        if raised and raised.type == DECLINED:
            declined.append(case.id)
        elif raised:
            return failed(f"{case.id} ({case.shapes()}) raised {raised.type}: {raised.message}")
    stale = stale_results(evidence)
    comparisons = [
        comparison
        for case in evidence.group("held_out")
        for comparison in evidence.comparisons(case)
        if (case.id, comparison.step, comparison.name) not in stale
    ]
    found = judge(comparisons)
    details = {"shapes": [case.shapes() for case in cases], "declined": declined}
    return found.model_copy(update={"details": {**found.details, **details}})
