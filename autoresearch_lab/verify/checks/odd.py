"""Catches a kernel that only fits the shapes, strides, values or dtypes it was tried on: single rows, odd lengths,
views with gaps, huge and tiny values, cancelling sums, NaN and infinities, every dtype that the contract lists.

A kernel may decline what it was not made for by raising NotImplementedError: nobody is misled by that. It may not
decline more than half of the cases in the dtype that the trainer uses.
"""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import Case, main_dtype
from autoresearch_lab.verify.checks.result import failed, judge
from autoresearch_lab.verify.checks.stale import stale_results
from autoresearch_lab.verify.comparisons import Comparisons

NAME = "odd"
DECLINED = "NotImplementedError"


def check(evidence: Comparisons) -> CheckResult:
    cases = [case for case in evidence.cases if case.group == "odd" and evidence.usable(case)]
    declined = []
    for case in cases:
        raised = evidence.error(case)
        if raised and raised.type == DECLINED:
            declined.append(case)
        elif raised:
            return failed(
                f"{case.id} ({case.shapes()}, strides {_strides(case)}) raised {raised.type}: {raised.message}",
                where=raised.where,
            )
    captured = {main_dtype(case.workload) for case in evidence.cases if case.group == "accuracy"}
    usual = [case for case in cases if main_dtype(case.workload) in captured]
    refused = [case for case in declined if case in usual]
    if 2 * len(refused) > len(usual):
        return failed(f"declines {len(refused)} of {len(usual)} odd cases in the trainer's own dtype")
    stale = stale_results(evidence)
    comparisons = [
        comparison
        for case in evidence.group("odd")
        for comparison in evidence.comparisons(case)
        if (case.id, comparison.step, comparison.name) not in stale
    ]
    found = judge(comparisons)
    return found.model_copy(update={"details": {**found.details, "declined": [case.id for case in declined]}})


def _strides(case: Case) -> list[list[int]]:
    return [spec["strides"] for spec in case.specs if spec["kind"] == "array"]
