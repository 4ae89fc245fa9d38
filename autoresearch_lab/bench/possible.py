"""Times that this machine cannot reach, by its measured ceilings, are refused."""

from __future__ import annotations

import numpy as np

from autoresearch_lab.bench.samples import BACKWARD, BOTH, FORWARD
from autoresearch_lab.bench.session import BenchSession
from autoresearch_lab.catalog import Target
from autoresearch_lab.ceilings import floor_seconds
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.results.base import Ceilings
from autoresearch_trainer.jobs.timing import TimedCall

# A time below this share of the least that the measured ceilings allow is refused; below the second share where the
# machine is busy with other work, for then its ceilings come out too low.
IMPOSSIBLE, IMPOSSIBLE_BUSY = 0.9, 0.3


def check_possible(session: BenchSession, ceilings: Ceilings) -> list[str]:
    """Refuse times of the candidate that the measured ceilings of this machine rule out; returns remarks.

    Raises:
        LabFailure: "impossible": a median time lies below the least possible one.
    """
    unknown = False
    arm, bed = session.candidate, session.bed
    share = IMPOSSIBLE_BUSY if session.busy else IMPOSSIBLE
    for place, workload in enumerate(bed.workloads):
        for direction, (flops, moved) in needed(bed.target, workload).items():
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


def needed(target: Target, workload: TimedCall) -> dict[str, tuple[int, int]]:
    """(operations, bytes) that one call needs at least, for forward and for both directions together.

    A kernel may compute its gradients in forward already, so backward alone has no least time; and one that does so
    reads its inputs once, so the two together need no more than the greater of the two needs.
    """
    forward = target.oracle.cost(workload, FORWARD)
    if not workload["gradient"]:
        return {FORWARD: forward}
    backward = target.oracle.cost(workload, BACKWARD)
    return {FORWARD: forward, BOTH: (max(forward[0], backward[0]), max(forward[1], backward[1]))}
