"""What does a call change besides returning its results?"""

from __future__ import annotations

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import GROUPS
from autoresearch_lab.verify.checks.result import MOST_EXAMPLES, failed, passed
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_trainer.jobs.calls import ResultName


def inputs_unchanged(evidence: Comparisons) -> CheckResult:
    """Catches a kernel that scribbles into its arguments or a cotangent, or into the memory between the elements of a
    strided one, or into the arguments of an earlier call; that changes the gradient which a parameter holds, leaves a
    hook on it or ends that it wants gradients. An argument that the contract marks as updated in place has to hold the
    output of the same name afterwards."""
    contract = evidence.target.contract
    inplace = {argument.name for argument in contract.args if argument.inplace}
    updated = {place: output.name for place, output in enumerate(contract.outputs) if output.name in inplace}
    problems, calls = [], 0
    for case in evidence.group(*GROUPS):
        for number, step in enumerate(case.steps):
            if not step.judged:
                continue
            calls += 1
            for name in evidence.candidate.step(case, number).changed:
                what = name if name.startswith(("cotangent ", "the ", "what ")) else f"argument {name}"
                problems.append(f"{what} was changed in {case.id} step {number} ({case.shapes()})")
            for place, name in updated.items():
                returned = evidence.candidate.array(case, number, ResultName.output(place))
                held = evidence.candidate.array(case, number, ResultName.argument(name))
                if returned is not None and held is not None and returned.tobytes() != held.tobytes():
                    problems.append(f"argument {name} does not hold the updated values in {case.id} step {number}")
    if problems:
        return failed(problems[0], calls=calls, wrong=len(problems), examples=problems[:MOST_EXAMPLES])
    return passed(calls=calls)


def side_effects(evidence: Comparisons) -> CheckResult:
    """Catches a kernel that changes the process around it: flush-to-zero from a library built with -ffast-math, thread
    counts, random state, dtype and gradient modes, environment variables, the allocator and the process's limits,
    replaced functions of torch or of the clock; one whose work goes on in threads or processes; and memory that grows
    with each call."""
    loaded, changed = evidence.candidate.told.loaded, evidence.candidate.told.changed
    left = evidence.candidate.left
    if loaded:
        return failed(f"loading it changed the process: {loaded[0]}", changes=loaded[:20])
    if changed:
        return failed(f"calling it changed the process: {changed[0]}", changes=changed[:20])
    if left:
        return failed(f"it started processes and left them behind: {', '.join(left)}", left=left)
    for case in evidence.group("combinations"):
        for number in range(len(case.steps)):
            told = evidence.candidate.step(case, number)
            if told.leaked:
                reason = (
                    f"memory grows by {told.leaked:.0f} bytes with each call, over {told.repeated} calls "
                    f"({case.id}, {case.shapes()})"
                )
                return failed(reason, leaked=told.leaked)
    return passed()
