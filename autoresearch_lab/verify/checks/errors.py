"""How wrong are results and gradients on the calls that the trainer makes?"""

from __future__ import annotations

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import Case
from autoresearch_lab.verify.checks.result import failed, judge, not_applicable
from autoresearch_lab.verify.checks.stale import fresh
from autoresearch_lab.verify.comparisons import Comparisons


def accuracy(evidence: Comparisons) -> CheckResult:
    """Catches a wrong or imprecise forward result on the calls that the trainer makes, with its real values and with
    fresh ones: at most `factor` times as wrong as the baseline, by element, by row and as a whole."""
    return judge([comparison for comparison in fresh(evidence, "accuracy") if comparison.name.kind == "output"])


def gradients(evidence: Comparisons) -> CheckResult:
    """Catches a missing, zero, scaled or wrong gradient: random cotangents, never 1, of several layouts; every argument
    alone; backward a second time; forward with gradients switched off."""
    if not evidence.target.differentiable:
        return not_applicable("the target has no gradient")
    missing = missing_gradient(evidence, *evidence.group("accuracy", "gradients"))
    if missing:
        return missing
    beside_outputs = [comparison for comparison in fresh(evidence, "accuracy") if comparison.name.kind != "output"]
    return judge(beside_outputs + fresh(evidence, "gradients"))


def missing_gradient(evidence: Comparisons, *cases: Case) -> CheckResult | None:
    """The verdict on the first of these cases in which a gradient is missing, where there is one."""
    for case in cases:
        if evidence.error(case):
            continue
        for number, step in enumerate(case.steps):
            if step.contents.cotangents is None or not case.grad or not step.judged:
                continue
            answer = evidence.candidate.step(case, number)
            if step.again and not answer.grads and answer.again:
                continue  # a second backward was refused with an error, which misleads nobody
            for name in case.grad:
                if answer.grads.get(name) is None:
                    return failed(f"the gradient of {name} is missing ({case.id})", missing=name, case=case.id)
    return None
