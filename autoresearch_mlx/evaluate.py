"""Validation loss of an MLX model in bits per byte; what is read, and how it is added up, is shared."""

import mlx.core as mx
import numpy as np

from autoresearch_mlx.memory import is_out_of_memory
from autoresearch_mlx.model import GPT


class BatchLosses:
    """Losses of a batch in pieces of `rows` sequences; smaller ones once memory has run out."""

    def __init__(self, model: GPT, rows: int) -> None:
        self.model = model
        self.rows = rows

    def __call__(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        while True:
            try:
                return np.concatenate(self._pieces(inputs, targets))
            except (RuntimeError, MemoryError) as error:
                if self.rows == 1 or not is_out_of_memory(error):
                    raise
            self.rows = max(1, self.rows // 2)
            mx.clear_cache()

    def _pieces(self, inputs: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        """One piece is on its way to the device while the one before is fetched."""
        found, pending = [], None
        for start in range(0, len(inputs), self.rows):
            idx, wanted = (mx.array(a[start : start + self.rows].astype(np.int32)) for a in (inputs, targets))
            loss = self.model(self.model.params, idx, wanted, "none")
            mx.async_eval(loss)
            if pending is not None:
                found.append(np.array(pending).astype(np.float64))
            pending = loss
        return [*found, np.array(pending).astype(np.float64)]
