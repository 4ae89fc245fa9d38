"""Catches native code for show: the result comes from a library operator that does the target's whole work, or stays
right when the native functions do nothing.

A kernel may leave one direction to the library and do the other itself. What it may not is hand on what such an
operator has made as the work of its own code. A kernel without native code is what it says it is, and has nothing to
prove here.
"""

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks.result import failed, not_applicable, passed
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_lab.verify.exchange import Answers
from autoresearch_lab.verify.reference_ops import REFERENCE_OPS
from autoresearch_trainer.jobs.calls import CaseAnswer

NAME = "really_ran"
FORWARD, BACKWARD = "forward", "backward"
# Of these so many are recorded.
MOST_OPERATORS = 60


def check(evidence: Comparisons) -> CheckResult:
    counts = {FORWARD: _operators(evidence, FORWARD), BACKWARD: _operators(evidence, BACKWARD)}
    operators = _together(counts)
    native = [name.rsplit("/", 1)[-1] for name in evidence.candidate.told.native]
    if not native:
        return not_applicable("no native code: the kernel is made of framework operators", operators=operators)
    heart = REFERENCE_OPS.get(evidence.target.name, frozenset())
    used = {direction: sorted(set(found) & heart) for direction, found in counts.items()}
    found = {"native": native, "operators": operators}
    idle = evidence.idle
    if idle is None or idle.failure is not None or not idle.told.noop.functions:
        # Which of the two does the work cannot be told.
        if called := sorted({*used[FORWARD], *used[BACKWARD]}):
            return failed(_both(called, "", idled=False), **found)
        if idle is None or idle.failure is None:
            reason = "the native code is not reached through ctypes or Triton, so it cannot be idled"
            return not_applicable(reason, native=native)
        return passed(native=native, idled=f"the kernel broke: {idle.failure.message}")
    calls = idle.told.noop.calls
    still_right, broken = _outcome(evidence, idle)
    for direction in (FORWARD, BACKWARD):
        if used[direction] and broken[direction]:
            return failed(_both(used[direction], f" in {direction}", idled=True), **found)
        if broken[direction]:
            break
    right = [*still_right[FORWARD], *still_right[BACKWARD]]
    wrong = [*broken[FORWARD], *broken[BACKWARD]]
    if right and not wrong:
        return failed(_for_show(calls), native=native, idle_calls=calls)
    return passed(native=native, idle_calls=calls, broken_when_idle=wrong, right_when_idle=right)


def _both(used: list[str], where: str, *, idled: bool) -> str:
    words = f"the kernel has native code, yet calls {', '.join(used)}{where}"
    if not idled:
        return f"{words}, and its native functions cannot be idled, which would show what they do"
    return f"{words}: what does the work has to be one of them (leave that operator out, or the native code)"


def _for_show(calls: int) -> str:
    if not calls:
        return "its native functions are not called where the trainer calls it: the results come from somewhere else"
    return f"with its native functions doing nothing ({calls} calls) every result stays right: they are for show"


def _operators(evidence: Comparisons, direction: str) -> dict[str, int]:
    """Framework operators that ran in the counted cases, and how often."""
    found: dict[str, int] = {}
    for case in evidence.cases:
        told = evidence.candidate.case(case.id) if case.spied else None
        for name, count in (_counted(told, direction) if told else {}).items():
            found[name] = found.get(name, 0) + count
    return found


def _counted(told: CaseAnswer, direction: str) -> dict[str, int]:
    return (told.operators if direction == FORWARD else told.backward_operators) or {}


def _together(counts: dict[str, dict[str, int]]) -> dict[str, int]:
    """For the record, the handful that any call makes left out."""
    names = sorted({*counts[FORWARD], *counts[BACKWARD]})[:MOST_OPERATORS]
    return {name: counts[FORWARD].get(name, 0) + counts[BACKWARD].get(name, 0) for name in names}


def _outcome(evidence: Comparisons, answers: Answers) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(results still right, results broken) of the counted cases with idle native code, by direction."""
    idle = Comparisons(evidence.target, evidence.cases, answers, evidence.baseline, evidence.references)
    right: dict[str, list[str]] = {FORWARD: [], BACKWARD: []}
    broken: dict[str, list[str]] = {FORWARD: [], BACKWARD: []}
    for case in evidence.cases:
        if not case.spied or not idle.candidate.case(case.id):
            continue
        if raised := idle.error(case):
            broken[FORWARD].append(f"{case.id}: {raised.type}")
            continue
        for comparison in idle.comparisons(case):
            missing = idle.candidate.array(case, comparison.step, comparison.name) is None
            direction = FORWARD if comparison.name.kind in ("output", "argument") else BACKWARD
            kinds = right if comparison.passed and not missing else broken
            kinds[direction].append(f"{case.id} {comparison.name}")
    return right, broken
