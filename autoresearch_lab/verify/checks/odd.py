"""Checks `odd` and `held_out`: calls that the trainer does not make, and calls that nobody could see beforehand.

A kernel may decline what it was not made for by raising NotImplementedError: nobody is misled by that.
"""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import Case, main_dtype
from autoresearch_lab.verify.checks.result import failed, judge
from autoresearch_lab.verify.checks.stale import fresh
from autoresearch_lab.verify.comparisons import Comparisons

DECLINED = "NotImplementedError"


def odd(evidence: Comparisons) -> CheckResult:
    """Catches a kernel that only fits the shapes, strides, values or dtypes it was tried on: single rows, odd lengths,
    views with gaps, huge and tiny values, cancelling sums, NaN and infinities, every dtype that the contract lists.
    It may not decline more than half of the cases in the dtype that the trainer uses."""
    cases, declined, failure = _tried(evidence, "odd")
    if failure:
        return failure
    captured = {main_dtype(case.workload) for case in evidence.cases if case.group == "accuracy"}
    usual = [case for case in cases if main_dtype(case.workload) in captured]
    refused = [case for case in declined if case in usual]
    if 2 * len(refused) > len(usual):
        return failed(f"declines {len(refused)} of {len(usual)} odd cases in the trainer's own dtype")
    found = judge(fresh(evidence, "odd"))
    return found.model_copy(update={"details": {**found.details, "declined": [case.id for case in declined]}})


def held_out(evidence: Comparisons) -> CheckResult:
    """Catches a kernel made for the shapes and seeds that its author could see: shapes and values drawn just now, from
    a seed that only the record of this run tells."""
    cases, declined, failure = _tried(evidence, "held_out")
    if failure:
        return failure
    found = judge(fresh(evidence, "held_out"))
    details = {"shapes": [case.shapes() for case in cases], "declined": [case.id for case in declined]}
    return found.model_copy(update={"details": {**found.details, **details}})


def _tried(evidence: Comparisons, group: str) -> tuple[list[Case], list[Case], CheckResult | None]:
    """(the cases of the group that can be asked of a candidate, those of them that it declined, the verdict where it
    raised anything else)."""
    cases = [case for case in evidence.cases if case.group == group and evidence.usable(case)]
    raised = [(case, error) for case in cases if (error := evidence.error(case))]
    for case, error in raised:
        if error.type != DECLINED:
            what = f"{case.id} ({case.shapes()}, strides {_strides(case)}) raised {error.type}: {error.message}"
            return cases, [], failed(what, where=error.where)
    return cases, [case for case, _ in raised], None


def _strides(case: Case) -> list[list[int]]:
    return [spec["strides"] for spec in case.specs if spec["kind"] == "array"]
