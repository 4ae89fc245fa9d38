"""Checks `odd`, `combinations` and `held_out`: calls that the trainer does not make, calls unusual in several ways at
once, and calls that nobody could see beforehand.

A kernel may decline what it was not made for by raising NotImplementedError: nobody is misled by that.
"""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import Case, main_dtype
from autoresearch_lab.verify.checks.errors import missing_gradient
from autoresearch_lab.verify.checks.result import failed, judge
from autoresearch_lab.verify.checks.stale import fresh
from autoresearch_lab.verify.combinations import trainer_makes
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_trainer.jobs.calls import NOT_COMPILED

DECLINED = "NotImplementedError"


def odd(evidence: Comparisons) -> CheckResult:
    """Catches a kernel that only fits the shapes, strides, values or dtypes it was tried on: single rows, odd lengths,
    views with gaps, huge and tiny values, cancelling sums, NaN and infinities, every dtype that the contract lists.
    It may not decline more than half of the cases in the dtype that the trainer uses."""
    return _mostly(evidence, "odd")


def combinations(evidence: Comparisons) -> CheckResult:
    """Catches a kernel that has a scalar's usual value written in, or is right in the usual context only: with aligned
    leaves in row-major order, differentiated at once, with a plain cotangent, and not compiled. The contents change at
    the same addresses in every context. It may not decline what the trainer may call (any of its values of the scalars,
    in its dtype, with arrays in row-major order), nor more than half of all in that dtype."""
    captured = {main_dtype(case.workload) for case in evidence.cases if case.group == "accuracy"}
    for case in evidence.cases:
        raised = evidence.error(case) if case.group == "combinations" and evidence.usable(case) else None
        if raised and raised.type == DECLINED and trainer_makes(case, captured):
            return failed(f"declines what a trainer may call: {case.id} ({case.shapes()}): {raised.message}")
    found = _mostly(evidence, "combinations")
    return found if found.status != "pass" else _alike_behind_others(evidence) or found


def _alike_behind_others(evidence: Comparisons) -> CheckResult | None:
    """The verdict where a call gives other bits once its arguments come out of an operator, as from another layer."""
    for case in evidence.group("combinations"):
        if any(evidence.candidate.step(case, number).apart for number in range(len(case.steps))):
            return failed(
                "other bits from arguments that come out of an operator, as from another layer, than from leaves with "
                f"the same values and strides ({case.id}, {case.shapes()})"
            )
    return None


def held_out(evidence: Comparisons) -> CheckResult:
    """Catches a kernel made for the shapes and seeds that its author could see: shapes and values drawn just now, from
    a seed that only the record of this run tells."""
    cases, declined, failure = _tried(evidence, "held_out")
    if failure:
        return failure
    found = judge(fresh(evidence, "held_out"))
    details = {
        "shapes": [case.shapes() for case in cases],
        "declined": _named(declined),
    }
    return found.model_copy(update={"details": {**found.details, **details}})


def _mostly(evidence: Comparisons, group: str) -> CheckResult:
    """The verdict on a group of which up to half may be declined."""
    cases, declined, failure = _tried(evidence, group)
    if failure:
        return failure
    captured = {main_dtype(case.workload) for case in evidence.cases if case.group == "accuracy"}
    usual = [case for case in cases if main_dtype(case.workload) in captured]
    refused = [case for case in declined if case in usual]
    if 2 * len(refused) > len(usual):
        return failed(f"declines {len(refused)} of {len(usual)} {group} cases in the trainer's own dtype")
    missing = missing_gradient(evidence, *cases)
    if missing:
        return missing
    found = judge(fresh(evidence, group))
    return found.model_copy(update={"details": {**found.details, "declined": _named(declined)}})


def _tried(evidence: Comparisons, group: str) -> tuple[list[Case], list[Case], CheckResult | None]:
    """(the cases of the group that can be asked of a candidate, those of them that it declined, the verdict where it
    raised anything else). One that torch.compile does not take is not asked that way: it trains uncompiled."""
    cases = [case for case in evidence.cases if case.group == group and evidence.usable(case)]
    cases = [case for case in cases if not ((error := evidence.error(case)) and error.type == NOT_COMPILED)]
    raised = [(case, error) for case in cases if (error := evidence.error(case))]
    for case, error in raised:
        if error.type != DECLINED:
            what = f"{case.id} ({case.shapes()}, strides {_strides(case)}) raised {error.type}: {error.message}"
            return cases, [], failed(what, where=error.where)
    return cases, [case for case, _ in raised], None


def _named(cases: list[Case]) -> list[str]:
    return [f"{case.id} ({case.shapes()})" for case in cases]


def _strides(case: Case) -> list[list[int]]:
    return [spec["strides"] for spec in case.specs if spec["kind"] == "array"]
