"""Names of the ranges that a trace of the trainer has: who opens them and who reads them agree here.

One range per traced step, in it one per phase, and in those one per call of a target, forward and backward.
"""

from autoresearch_trainer.kernel_files import TARGETS

STEP = "training step"
PHASES = ("forward", "backward", "optimizer", "data")
_BACKWARD = " backward"


def backward_of(target: str) -> str:
    """Name of the ranges of a target's backward."""
    return target + _BACKWARD


def target_of(name: str) -> tuple[str, bool] | None:
    """(target, whether it is its backward) of a range's name; None where the range is not one of a target."""
    target = name.removesuffix(_BACKWARD)
    return (target, target != name) if target in TARGETS else None
