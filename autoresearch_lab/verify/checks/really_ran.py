"""Catches native code for show: the result comes from a library operator that does the target's whole work, or stays
right when the native functions do nothing.

A kernel without native code is what it says it is, and has nothing to prove here.
"""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.result import failed, not_applicable, passed
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_lab.verify.exchange import Answers
from autoresearch_lab.verify.reference_ops import REFERENCE_OPS

NAME = "really_ran"


def check(evidence: Comparisons) -> CheckResult:
    operators = _operators(evidence)
    native = [name.rsplit("/", 1)[-1] for name in evidence.candidate.told.native]
    if not native:
        return not_applicable("no native code: the kernel is made of framework operators", operators=operators)
    used = sorted(set(operators) & REFERENCE_OPS.get(evidence.target.name, frozenset()))
    if used:
        return failed(f"the kernel has native code, yet calls {', '.join(used)}", native=native, operators=operators)
    idle = evidence.idle
    if idle is None or (idle.failure is None and not idle.told.noop.functions):
        reason = "the native code is not reached through ctypes or Triton, so it cannot be idled"
        return not_applicable(reason, native=native)
    if idle.failure is not None:
        return passed(native=native, idled=f"the kernel broke: {idle.failure.message}")
    still_right, broken = _outcome(evidence, idle)
    calls = idle.told.noop.calls
    if still_right and not broken:
        return failed(
            f"with its native functions doing nothing ({calls} calls) every result stays right: they are for show",
            native=native,
            idle_calls=calls,
        )
    return passed(native=native, idle_calls=calls, broken_when_idle=broken, right_when_idle=still_right)


def _operators(evidence: Comparisons) -> dict[str, int]:
    """Framework operators that ran in the counted cases, the handful that any call makes left out."""
    found: dict[str, int] = {}
    for case in evidence.cases:
        if case.spied:
            told = evidence.candidate.case(case.id)
            for name, count in ((told and told.operators) or {}).items():
                found[name] = found.get(name, 0) + count
    return dict(sorted(found.items())[:60])


def _outcome(evidence: Comparisons, answers: Answers) -> tuple[list[str], list[str]]:
    """(results still right, results broken) of the counted cases with idle native code."""
    idle = Comparisons(evidence.target, evidence.cases, answers, evidence.baseline, evidence.references)
    right: list[str] = []
    broken: list[str] = []
    for case in evidence.cases:
        if not case.spied or not idle.candidate.case(case.id):
            continue
        if raised := idle.error(case):
            broken.append(f"{case.id}: {raised.type}")
            continue
        for comparison in idle.comparisons(case):
            missing = idle.candidate.array(case, comparison.step, comparison.name) is None
            (right if comparison.passed and not missing else broken).append(f"{case.id} {comparison.name}")
    return right, broken
