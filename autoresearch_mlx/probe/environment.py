"""What a kernel must leave alone: the floating-point environment, MLX's device, limits, functions and random state."""

import hashlib
from typing import cast

import mlx.core as mx

from autoresearch_mlx.arrays import to_numpy
from autoresearch_trainer.probe.state import WATCHED, GuardBase, State, numerics, surroundings

SUBNORMAL = 1e-40  # below the smallest normal float32, 1.2e-38


def snapshot() -> State:
    """The state now, as plain JSON. Calls no kernel and draws no random number."""
    return {
        **numerics(),
        "subnormals kept (MLX)": bool((mx.full((1024,), SUBNORMAL) * 0.5).any().item()),
        "default device": str(mx.default_device()),
        "default stream": str(mx.default_stream(mx.default_device())),
        "memory limit": mx.get_memory_limit(),
        "random state": hashlib.sha256(to_numpy(cast(list[mx.array], mx.random.state)[0]).tobytes()).hexdigest()[:16],
    }


class Guard(GuardBase):
    """See GuardBase."""

    watched = (*WATCHED, mx, mx.fast, mx.random, mx.linalg)

    def state(self) -> State:
        return {**snapshot(), **surroundings()}

    def cheap_state(self) -> State:
        return {"default device": str(mx.default_device()), **super().cheap_state()}
