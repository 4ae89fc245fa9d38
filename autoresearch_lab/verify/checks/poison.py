"""Catches results that were never computed: parts of an output left as the memory was, which in another process would
hold an older, right answer. Fresh memory holds one pattern, then another, then the first again."""

import numpy as np

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import PATTERN, SECOND_PATTERN, Case
from autoresearch_lab.verify.checks.result import MOST_EXAMPLES, failed, passed
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_trainer.jobs.calls import ResultName

NAME = "poison"
FIRST, SECOND, THIRD = 0, 1, 2


def check(evidence: Comparisons) -> CheckResult:
    problems, seen = [], 0
    for case in evidence.group("accuracy"):
        if len(case.steps) <= THIRD or case.steps[SECOND].pattern == case.steps[FIRST].pattern:
            continue
        for name in evidence.results(case, FIRST):
            seen += 1
            words = _problem(evidence, case, name)
            if words:
                problems.append(f"{name} in {case.id} ({case.shapes()}): {words}")
    if problems:
        return failed(problems[0], compared=seen, wrong=len(problems), examples=problems[:MOST_EXAMPLES])
    return passed(compared=seen)


def _problem(evidence: Comparisons, case: Case, name: ResultName) -> str | None:
    one, two = evidence.candidate.array(case, FIRST, name), evidence.candidate.array(case, SECOND, name)
    if one is None or two is None or one.shape != two.shape or one.dtype != two.dtype:
        return None
    untouched = int(np.count_nonzero(_holds(one, PATTERN) & _holds(two, SECOND_PATTERN)))
    if untouched:
        return f"{untouched} of {one.size} elements were never written"
    if evidence.same(case, FIRST, THIRD, name) and not evidence.same(case, FIRST, SECOND, name):
        differing = int(np.count_nonzero(_bits(one) != _bits(two)))
        return f"{differing} of {one.size} elements depend on memory that the kernel did not write"
    return None


def _holds(array: np.ndarray, pattern: int) -> np.ndarray:
    """Elements whose every byte is the pattern."""
    data = np.ascontiguousarray(array).reshape(-1)
    return (data.view(np.uint8).reshape(data.size, -1) == pattern).all(axis=1) if data.size else np.zeros(0, bool)


def _bits(array: np.ndarray) -> np.ndarray:
    data = np.ascontiguousarray(array).reshape(-1)
    return data.view(f"u{array.dtype.itemsize}")
