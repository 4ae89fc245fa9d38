"""What makes a measurement unbelievable: a clock that disagrees, outputs that are not those of the timed contents, and
times that this machine cannot reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autoresearch_lab.bench.samples import BACKWARD, BOTH, FORWARD
from autoresearch_lab.catalog import Target
from autoresearch_lab.ceilings import bandwidth, matmul_rate
from autoresearch_lab.errors import LabFailure

if TYPE_CHECKING:
    from autoresearch_lab.bench.session import Session

# The child's clock against the parent's over the whole measurement: share, and what messages may take on the way.
CLOCK_SHARE, CLOCK_SECONDS = 0.03, 0.1
# Outputs of timed calls against the reference's, as relative root mean square error. Verification has judged accuracy;
# stale, skipped or cached results are wrong by tens of per cent.
WRONG = {"bfloat16": 0.05, "float16": 0.05}
WRONG_ELSE = 0.01
# The same kernel on the same contents, later: only the order of its additions may differ.
AGAIN = 0.2
# A time below this share of the least that the measured ceilings allow is refused; below the second share where the
# machine is busy with other work, for then its ceilings come out too low.
IMPOSSIBLE, IMPOSSIBLE_BUSY = 0.9, 0.3


def check_clock(raw: Mapping[str, Any], marks: Mapping[str, float]) -> None:
    """Hold the child's span against the parent's, which saw the messages at its start and end.

    Raises:
        LabFailure: they differ, or more time is said to have been timed than has passed.
    """
    if "measure" not in marks or "measured" not in marks:
        raise LabFailure("bench: the timing process did not say when it measured")
    own, theirs = marks["measured"] - marks["measure"], float(raw["span_seconds"])
    if abs(own - theirs) > CLOCK_SHARE * own + CLOCK_SECONDS:
        raise LabFailure(f"bench: clocks disagree: {theirs:.3f} s in the timing process, {own:.3f} s outside")
    if raw["timed_seconds"] > own * (1 + CLOCK_SHARE) + CLOCK_SECONDS:
        raise LabFailure(f"bench: {raw['timed_seconds']:.3f} s of samples in {own:.3f} s of time")


class WrongOutput(LabFailure):
    """A timed call of an arm gave something else than it should have. arm: its place among those of the process."""

    def __init__(self, message: str, arm: int) -> None:
        super().__init__(message)
        self.arm = arm


def check_outputs(
    outputs: Mapping[str, np.ndarray], target: Target, arms: Sequence[str], workloads: Sequence[Mapping[str, Any]]
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


def output_name(target: Target, workload: Mapping[str, Any], number: int) -> tuple[str, str]:
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


def floor_seconds(ceilings: Mapping[str, Any], flops: int, moved_bytes: int) -> float | None:
    """Least time for that work here, for refusing results: None = unknown.

    More generous than an estimate: the bandwidth is that of a working set of a quarter of the size, since part of it
    may stay in a cache, and the arithmetic may use the fastest type there is.
    """
    speed = bandwidth(dict(ceilings), moved_bytes // 4)
    rates = [matmul_rate(dict(ceilings), dtype) for dtype in ceilings.get("matmul_gflop_s", {})]
    rate = max((rate for rate in rates if rate), default=None)
    if speed is None or (flops and rate is None):
        return None
    return max(moved_bytes / speed, flops / rate if rate else 0.0)


def highest(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ceilings measured several times, as one: the best rates, since other work only ever takes speed away."""
    copies: dict[int, float] = {}
    products: dict[str, float] = {}
    for ceilings in measured:
        for size, rate in ceilings.get("copy_gb_s", []):
            copies[size] = max(rate, copies.get(size, 0.0))
        for dtype, rate in ceilings.get("matmul_gflop_s", {}).items():
            products[dtype] = max(rate, products.get(dtype, 0.0))
    return {
        "copy_gb_s": [[size, rate] for size, rate in sorted(copies.items())],
        "matmul_gflop_s": products,
        "record": measured[-1].get("record"),
    }


def check_possible(session: Session, ceilings: Mapping[str, Any]) -> list[str]:
    """Refuse times of the candidate that the measured ceilings of this machine rule out; returns remarks.

    Raises:
        LabFailure: "impossible": a median time lies below the least possible one.
    """
    unknown = False
    arm = session.candidate
    share = IMPOSSIBLE_BUSY if session.busy else IMPOSSIBLE
    for place, workload in enumerate(session.workloads):
        for direction, (flops, moved) in needed(session.target, workload).items():
            floor = floor_seconds(ceilings, flops, moved)
            if floor is None:
                unknown = True
                continue
            taken = float(np.median(np.concatenate([p.seconds(direction)[:, arm, place] for p in session.processes])))
            if taken < share * floor:
                raise LabFailure(
                    f"bench: impossible: {session.arms[arm].name} took {taken * 1e6:.1f} us for {direction} of "
                    f"{workload['id']}; this machine needs at least {floor * 1e6:.1f} us for {moved} bytes and "
                    f"{flops} operations"
                )
    return ["the machine's ceilings are unknown: impossible times cannot be told"] if unknown else []


def needed(target: Target, workload: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(operations, bytes) that one call needs at least, for forward and for both directions together.

    A kernel may compute its gradients in forward already, so backward alone has no least time; and one that does so
    reads its inputs once, so the two together need no more than the greater of the two needs.
    """
    forward = target.oracle.cost(workload, FORWARD)
    if not workload["gradient"]:
        return {FORWARD: forward}
    backward = target.oracle.cost(workload, BACKWARD)
    return {FORWARD: forward, BOTH: (max(forward[0], backward[0]), max(forward[1], backward[1]))}
