"""Catches a kernel that changes the process around it: flush-to-zero from a library built with -ffast-math, thread
counts, random state, dtype and gradient modes, environment variables, replaced functions of torch or of the clock."""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.result import failed, passed
from autoresearch_lab.verify.comparisons import Comparisons

NAME = "side_effects"


def check(evidence: Comparisons) -> CheckResult:
    loaded, changed = evidence.candidate.told.loaded, evidence.candidate.told.changed
    if loaded:
        return failed(f"loading it changed the process: {loaded[0]}", changes=loaded[:20])
    if changed:
        return failed(f"calling it changed the process: {changed[0]}", changes=changed[:20])
    return passed()
