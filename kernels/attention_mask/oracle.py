"""Oracle of attention_mask: query i may attend to key j when 0 <= i - j <= window."""

from typing import Any

import numpy as np

from autoresearch_common import workload as w


def forward(args: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """-> (mask (T,T) bool,), True = may attend. `like` names the device only; its values do not matter."""
    positions = np.arange(args["seq_len"])
    distance = positions[:, None] - positions[None, :]
    return ((distance >= 0) & (distance <= args["window"]),)


def backward(args: dict[str, Any], cotangents: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """A mask has no gradient."""
    return {}


def inputs(workload: w.Workload, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """`edge` and `adversarial` move the window to where an off-by-one or a missing bound shows."""
    values = {**w.scalars(workload), "like": w.normal(w.argument(workload, "like"), rng)}
    length = values["seq_len"]
    if kind == "edge":
        values["window"] = int(rng.choice([0, 1, max(0, length - 2), length - 1, length]))
    elif kind == "adversarial":
        values["window"] = int(rng.integers(0, length + 1))
    return values


def cost(workload: w.Workload, direction: str = "forward") -> tuple[int, int]:
    """Two comparisons per element, one byte written each; nothing backward."""
    elements = w.scalars(workload)["seq_len"] ** 2
    return (2 * elements, elements) if direction == "forward" else (0, 0)


def neighbours(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    odd = int(rng.integers(20, 200)) * 2 + 1
    pairs = [(1, 0), (1, 1), (17, 8), (255, 255), (255, 0), (64, 100), (odd, odd // 3)]
    calls = [w.variant(workload, seq_len=length, window=window) for length, window in pairs]
    return calls + [w.variant(call, like=(2, 3, 2, 8)) for call in calls[2:]]


def beyond(workload: w.Workload, rng: np.random.Generator) -> list[w.Workload]:
    """Long sequences, with a short window, a long one and none; round lengths and windows."""
    some = int(rng.integers(1, 100))
    pairs = [(512 + some, 64), (1024 + some, 1000), (1024 - some, 4096)]
    pairs += [(512, 256), (2048, 1024), (2049 + 4 * some, 700)]
    return [w.variant(workload, seq_len=length, window=window) for length, window in pairs]


def with_rows(workload: w.Workload, count: int, width: int) -> w.Workload:
    """A small call of `count` positions, of which a query sees up to `width` thirty-seconds."""
    return w.variant(workload, seq_len=count, window=count * width // 32)
