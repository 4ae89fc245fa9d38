"""Bits per byte: a loss that does not depend on the vocabulary.

The cross entropy of every target token, in nats, over the targets that stand for bytes, divided by ln 2 times the
number of those bytes. Special tokens stand for no byte and count on neither side.
"""

from __future__ import annotations

import math

import numpy as np


def accumulate(nats: np.ndarray, targets: np.ndarray, token_bytes: np.ndarray) -> tuple[float, int]:
    """Sum the nats and the bytes of the targets that stand for at least one byte.

    nats: float (N,), cross entropy per target.  targets: int (N,), token ids; negative ones are ignored.
    token_bytes: int32 (vocab_size,).  Returns (nats, bytes); sums are float64 and int64 whatever comes in.
    Raises ValueError for shapes that differ and for targets beyond the vocabulary.
    """
    nats, targets = np.asarray(nats).reshape(-1), np.asarray(targets).reshape(-1)
    if nats.shape != targets.shape:
        raise ValueError(f"{nats.size} losses for {targets.size} targets")
    if targets.size and int(targets.max()) >= token_bytes.size:
        raise ValueError(f"target {int(targets.max())} is beyond the vocabulary of {token_bytes.size}")
    lengths = np.where(targets >= 0, token_bytes[np.maximum(targets, 0)], 0)
    counted = lengths > 0
    return float(nats[counted].sum(dtype=np.float64)), int(lengths.sum(dtype=np.int64))


def bits_per_byte(total_nats: float, total_bytes: int) -> float:
    """total_nats / (ln 2 * total_bytes). Raises ValueError where no byte was predicted."""
    if total_bytes <= 0:
        raise ValueError("bits per byte of no bytes: every target was a special token or ignored")
    return total_nats / (math.log(2.0) * total_bytes)
