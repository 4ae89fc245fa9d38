"""Catches a kernel that dies instead of answering: a crash, a hang, too much memory, an exception on a call that the
trainer makes."""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.result import failed, passed
from autoresearch_lab.verify.comparisons import Comparisons

NAME = "runs"


def check(evidence: Comparisons) -> CheckResult:
    failure = evidence.candidate.failure
    if failure is not None:
        return failed(f"{failure.stage}: {failure.message}", kind=failure.kind, detail=failure.detail[-800:])
    # Odd and held-out calls have checks of their own, where a declared limit may be told from a fault.
    for case in evidence.cases:
        raised = evidence.error(case)
        if raised and case.group in ("accuracy", "gradients") and evidence.usable(case):
            reason = f"{case.id} ({case.shapes()}) raised {raised.type}: {raised.message}"
            return failed(reason, kind="exception", where=raised.where)
    return passed(cases=len(evidence.cases))
