"""What to look at first after a failure: what the calls that fail have in common, and how to make them again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations as pairs_of

from autoresearch_common import workload as w
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.verify.cases import Case
from autoresearch_lab.verify.checks.stale import stale_results
from autoresearch_lab.verify.comparisons import Comparisons

Call = tuple[Case, int]


def next_step(evidence: Comparisons, failed_check: str, kernel: Kernel, seed: int) -> str:
    """For people and agents: one or two sentences; none where no call was made."""
    if failed_check == "loads":
        return ""
    repeat = f"The same calls again: kernel-lab verify {_subject(kernel)} --seed {seed}"
    calls = _calls(evidence, failed_check)
    look = _in_common(*calls) if calls else ""
    return f"Look first at the {look}. {repeat}" if look else repeat


def _subject(kernel: Kernel) -> str:
    return str(kernel.path.parent) if kernel.name.startswith("workspace:") else f"{kernel.target}={kernel.name}"


def _calls(evidence: Comparisons, failed_check: str) -> tuple[list[Call], list[Call]] | None:
    """(combinations that failed this check, all others); None for a check that says nothing of single calls."""
    cases = [case for case in evidence.cases if case.group == "combinations" and evidence.usable(case)]
    every = [(case, number) for case in cases for number, step in enumerate(case.steps) if step.judged]
    if failed_check == "stale":
        places = {(case, step) for case, step, _ in stale_results(evidence)}
        failing = [call for call in every if (call[0].id, call[1]) in places]
    elif failed_check == "combinations":
        wrong = {
            (c.case.id, c.step)
            for case in cases
            if not evidence.error(case)
            for c in evidence.comparisons(case)
            if not c.passed
        }
        failing = [call for call in every if evidence.error(call[0]) or (call[0].id, call[1]) in wrong]
    else:
        return None
    return failing, [call for call in every if call not in failing]


def _in_common(failing: Sequence[Call], others: Sequence[Call]) -> str:
    """The axis, or the two axes, whose values in the failing calls are found in the fewest of the others; empty where
    all axes look alike in both."""
    if not failing:
        return ""
    wrong, right = ([_traits(*call) for call in calls] for calls in (failing, others))
    values = {axis: {traits.get(axis) for traits in wrong} for axis in wrong[0]}

    def also(axes: tuple[str, ...]) -> int:
        return sum(all(traits.get(axis) in values[axis] for axis in axes) for traits in right)

    def rank(axes: tuple[str, ...]) -> tuple[int, int]:
        return also(axes), sum(len(values[axis]) for axis in axes)

    alone: list[tuple[str, ...]] = [(axis,) for axis in values]
    best = min(alone, key=rank)
    if also(best) > 0:
        # Two axes where they tell the failures apart much better than any one.
        two = min(pairs_of(values, 2), key=rank, default=best)
        best = two if also(two) < 0.5 * also(best) else best
    if also(best) == len(others) > 0:
        return ""
    words = " and ".join(f"{axis} ({' or '.join(sorted(map(str, values[axis])))})" for axis in best)
    beside = f"{also(best)} of the {len(others)} others" if also(best) else f"none of the {len(others)} others"
    return f"{words}: that is so in all {len(failing)} calls that fail, and in {beside}"


def _traits(case: Case, number: int) -> dict[str, str]:
    """What may matter of a call: {axis: value}, in words."""
    step = case.steps[number]
    found = {name: str(value) for name, value in (w.scalars(case.workload) | dict(step.contents.scalars)).items()}
    found |= dict(case.layouts) | {"context": case.mode, "values": step.contents.kind, "compiled": str(case.compiled)}
    found |= {f"shape of {spec['name']}": str(tuple(spec["shape"])) for spec in w.arrays(case.workload)}
    found |= {f"dtype of {spec['name']}": spec["dtype"] for spec in w.arrays(case.workload)}
    if case.grad:
        found |= {"layout of cotangents": step.layout, "backward": "twice" if step.again else "once"}
        found["gradients of"] = ", ".join(case.grad)
    return found
