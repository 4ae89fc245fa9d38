"""What makes one process's measurement unbelievable: samples of another shape, a clock that disagrees, outputs that are
not those of the timed contents. (Times that this machine cannot reach: see `possible`.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoresearch_lab.catalog import Target
from autoresearch_lab.errors import LabFailure
from autoresearch_trainer.jobs.timing import TimeAnswer, TimedCall

# The child's clock against the parent's over the whole measurement: share, and what messages may take on the way.
CLOCK_SHARE, CLOCK_SECONDS = 0.03, 0.1
# Outputs of timed calls against the reference's, as relative root mean square error. Verification has judged accuracy;
# stale, skipped or cached results are wrong by tens of per cent.
WRONG = {"bfloat16": 0.05, "float16": 0.05}
WRONG_ELSE = 0.01
# The same kernel on the same contents, later: only the order of its additions may differ.
AGAIN = 0.2


def check_shape(answer: TimeAnswer, arms: int, workloads: int) -> None:
    """Every sample that there should be has to be there.

    Raises:
        LabFailure: the answer is of another shape.
    """
    rounds, per_arm = len(answer.samples), (arms, workloads)
    shapes = [
        (answer.samples, (rounds, 2, *per_arm, 2)),
        (answer.clean, (rounds, 2, *per_arm)),
        (answer.first_call_ms, per_arm),
        (answer.peak_bytes or answer.first_call_ms, per_arm),
        (answer.calls, (workloads,)),
        (answer.disturbed, (arms,)),
        (answer.graph_breaks or answer.disturbed, (arms,)),
        (answer.orders, (rounds, workloads)),
    ]
    if answer.gpu is not None:
        times = (answer.gpu.warm, answer.gpu.open_host, answer.gpu.open_device)
        shapes += [(found, (*per_arm, 2)) for found in times] + [(answer.gpu.waits, per_arm)]
    visits = [visit for visited in answer.orders for visit in visited]
    whole = all(place < workloads and sorted(order) == list(range(arms)) for place, order in visits)
    if not (rounds and whole and all(_shape(found) == wanted for found, wanted in shapes)):
        raise LabFailure(f"bench: the timing process gave samples of another shape than {arms} arms, {workloads} calls")


def _shape(nested: object) -> tuple[int, ...] | None:
    """The lengths of nested lists, from the outside in; None where they differ within a level."""
    if not isinstance(nested, list):
        return ()
    shapes = {_shape(part) for part in nested}
    inner = shapes.pop() if len(shapes) == 1 else None
    return None if inner is None else (len(nested), *inner)


def check_clock(answer: TimeAnswer, marks: Mapping[str, float]) -> None:
    """Hold the child's span against the parent's, which saw the messages at its start and end.

    Raises:
        LabFailure: they differ, or more time is said to have been timed than has passed.
    """
    if "measure" not in marks or "measured" not in marks:
        raise LabFailure("bench: the timing process did not say when it measured")
    own, theirs = marks["measured"] - marks["measure"], answer.span_seconds
    if abs(own - theirs) > CLOCK_SHARE * own + CLOCK_SECONDS:
        raise LabFailure(f"bench: clocks disagree: {theirs:.3f} s in the timing process, {own:.3f} s outside")
    if answer.timed_seconds > own * (1 + CLOCK_SHARE) + CLOCK_SECONDS:
        raise LabFailure(f"bench: {answer.timed_seconds:.3f} s of samples in {own:.3f} s of time")


class WrongOutput(LabFailure):
    """A timed call of an arm gave something else than it should have. arm: its place among those of the process."""

    def __init__(self, message: str, arm: int) -> None:
        super().__init__(message)
        self.arm = arm


def check_outputs(
    outputs: Mapping[str, np.ndarray], target: Target, arms: Sequence[str], workloads: Sequence[TimedCall]
) -> None:
    """Timed calls must have given what the reference, and later the same kernel, give for the same contents.

    Raises:
        WrongOutput: one did not (work skipped, put off, or taken from an earlier call).
        LabFailure: nothing was kept.
    """
    timed = {name.removeprefix("timed/"): value for name, value in outputs.items() if name.startswith("timed/")}
    seen = {tuple(name.split("/")[:2]) for name in timed}
    expected = {(str(arm), str(place)) for arm in range(len(arms)) for place in range(len(workloads))}
    if seen != expected:
        raise LabFailure("bench: outputs of timed calls are missing")
    sizes = usual_sizes(outputs)
    for name, value in timed.items():
        arm, place, _, number = (int(part) for part in name.split("/"))
        what, dtype = output_name(target, workloads[place], number)
        allowed = WRONG.get(dtype, WRONG_ELSE)
        for kind, share in (("reference", 1.0), ("again", AGAIN)):
            error = relative_error(value, outputs.get(f"{kind}/{name}"), sizes.get((place, number), 0.0))
            if error > allowed * share:
                other = "the baseline's" if kind == "reference" else "its own, called later"
                raise WrongOutput(
                    f"bench: {arms[arm]}: {what} of a timed call differs from {other} on the same contents "
                    f"(relative error {error:.3g}, at most {allowed * share:.3g}); workload {workloads[place]['id']}",
                    arm,
                )


def usual_sizes(outputs: Mapping[str, np.ndarray]) -> dict[tuple[int, int], float]:
    """{(workload, number of the output): root mean square of the reference's values} for outputs of a single number.

    Such a number may be a sum that happens to cancel (the gradient of a factor): beside its own size the roundings of
    its terms are large, beside that of its like they are not.
    """
    found: dict[tuple[int, int], list[float]] = {}
    for name, value in outputs.items():
        kind, _, place, _, number = name.split("/")
        if kind == "reference" and value.size == 1 and np.isfinite(value).all():
            found.setdefault((int(place), int(number)), []).append(float(np.square(value.astype(np.float64)).sum()))
    return {key: float(np.sqrt(np.mean(squares))) for key, squares in found.items()}


def output_name(target: Target, workload: TimedCall, number: int) -> tuple[str, str]:
    """(what it is, dtype) of output `number`: the target's outputs, then the gradients in argument order. A gradient is
    no more precise than the coarsest floating argument, whatever it is stored in, so that one's dtype is given."""
    dtypes = {spec["name"]: spec["dtype"] for spec in workload["args"] if spec["kind"] == "array"}
    declared = target.contract.outputs
    if number < len(declared):
        dtype = declared[number].dtype
        return f"output {declared[number].name}", dtypes.get(dtype.removeprefix("like:"), dtype)
    needed = [spec["name"] for spec in workload["args"] if spec["kind"] == "array" and spec["grad"]]
    place = number - len(declared)
    if place >= len(needed):
        return "an output", ""
    name = needed[place]
    return f"gradient of {name}", next((dtype for dtype in WRONG if dtype in dtypes.values()), dtypes[name])


def relative_error(value: np.ndarray, reference: np.ndarray | None, least: float = 0.0) -> float:
    """Root mean square of the difference over that of the reference; infinite where shapes or finite places differ.
    `least`: a reference whose norm is smaller counts as this large."""
    if reference is None or reference.shape != value.shape:
        return float("inf")
    finite = np.isfinite(reference)
    if not np.array_equal(finite, np.isfinite(value)):
        return float("inf")
    a, b = value[finite].astype(np.float64), reference[finite].astype(np.float64)
    difference, scale = float(np.linalg.norm(a - b)), max(float(np.linalg.norm(b)), least)
    return difference / scale if scale > 0 else (0.0 if difference == 0 else float("inf"))
