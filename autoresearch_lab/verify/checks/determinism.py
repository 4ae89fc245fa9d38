"""Catches results that differ from call to call: the same contents at the same addresses must give the same bits, in
thousands of calls of one small case too, and at a later hour."""

import numpy as np

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import Case, widen
from autoresearch_lab.verify.checks.poison import FIRST, THIRD
from autoresearch_lab.verify.checks.result import MOST_EXAMPLES, failed, passed
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_trainer.jobs.calls import ResultName

NAME = "determinism"


def check(evidence: Comparisons) -> CheckResult:
    problems, seen, spread = [], 0, 0.0
    for case in evidence.group("accuracy"):
        if len(case.steps) <= THIRD or case.steps[FIRST].contents is not case.steps[THIRD].contents:
            continue
        for name in evidence.results(case, FIRST):
            same = evidence.same(case, FIRST, THIRD, name)
            if same is None:
                continue
            seen += 1
            if not same and not _same_numbers(evidence, case, name):
                difference = _spread(evidence, case, name)
                spread = max(spread, difference)
                problems.append(
                    f"{name} in {case.id} ({case.shapes()}) differs between two calls with the same contents, "
                    f"by up to {difference:.2g} of its largest magnitude"
                )
    repeats = 0
    for case in evidence.group("combinations"):
        for number in range(len(case.steps)):
            told = evidence.candidate.step(case, number)
            repeats += told.repeated
            if told.strayed:
                when = f"{told.late} of two calls that were made as a day later in a training gave"
                if told.strayed > told.late:
                    when = f"{told.strayed - told.late} of {told.repeated} calls with the same contents gave"
                problems.append(f"{when} other bits than the first ({case.id}, {case.shapes()})")
    if problems:
        return failed(problems[0], compared=seen, wrong=len(problems), spread=spread, examples=problems[:MOST_EXAMPLES])
    return passed(compared=seen, spread=0.0, repeated=repeats)


def _same_numbers(evidence: Comparisons, case: Case, name: ResultName) -> bool:
    """Whether only zeros differ, by their signs: so it is where a compiler or TorchScript takes another form of the
    same sum once it knows a function."""
    first, third = (evidence.candidate.array(case, step, name) for step in (FIRST, THIRD))
    if first is None or third is None or first.dtype != third.dtype:
        return False
    return np.array_equal(widen(first), widen(third), equal_nan=True)


def _spread(evidence: Comparisons, case: Case, name: ResultName) -> float:
    first, third = (evidence.candidate.array(case, step, name) for step in (FIRST, THIRD))
    if first is None or third is None:
        return 1e308
    one, two = widen(first).astype(np.float64), widen(third).astype(np.float64)
    if one.shape != two.shape:
        return 1e308
    largest = float(np.max(np.abs(np.nan_to_num(one, posinf=0.0, neginf=0.0)), initial=0.0))
    with np.errstate(all="ignore"):
        difference = float(np.max(np.nan_to_num(np.abs(one - two), nan=largest, posinf=largest), initial=0.0))
    return difference / largest if largest else difference
