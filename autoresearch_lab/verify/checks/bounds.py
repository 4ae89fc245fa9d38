"""Catches native code that reads or writes outside of its arguments, its results and its own memory: the C++ is built a
second time under AddressSanitizer, and runs through the cases again, the large captured ones left out.

Only C++ that `autoresearch_cuda.native` builds from the file beside the kernel's can be built so.
"""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.result import failed, not_applicable, passed, result
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_lab.verify.sanitized import METHOD

NAME = "bounds"


def check(evidence: Comparisons) -> CheckResult:
    found = evidence.sanitized
    if found is None:
        return not_applicable("no C++ beside the kernel's file")
    if found.answers is None:
        return result("skipped", found.obstacle or "", {})
    failure = found.answers.failure
    if failure is None and found.overrun is None:
        return passed(cases=len(found.answers.told.cases), method=METHOD)
    if not found.built:
        words = found.overrun.words if found.overrun else failure.message if failure else ""
        return result("skipped", f"the kernel does not load under {METHOD}: {words}", {"method": METHOD})
    stage = failure.stage if failure else "end"
    if found.overrun is not None:
        return failed(f"{found.overrun.words} ({stage})", method=METHOD, kind=found.overrun.kind)
    if failure is not None and failure.kind in ("timeout", "memory", "killed"):
        return result("skipped", f"{stage}: {failure.message} under {METHOD}", {"method": METHOD})
    message = failure.message if failure else ""
    return failed(f"under {METHOD}: {stage}: {message}", method=METHOD, kind=failure.kind if failure else "")
