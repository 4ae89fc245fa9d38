"""Validation loss of an MLX model in bits per byte; what is read, and how it is added up, is shared."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_mlx.memory import is_out_of_memory
from autoresearch_mlx.model import GPT
from autoresearch_trainer import evaluate as shared
from autoresearch_trainer.evaluate import EvalResult, OnBatch, Rows, spread

__all__ = ["EvalResult", "Rows", "evaluate_bpb", "evaluate_rows", "evaluate_rungs", "spread"]


def evaluate_bpb(
    model: GPT,
    dataset: Any,
    batch_size: int,
    sequence_len: int,
    eval_tokens: int,
    on_batch: OnBatch | None = None,
    rows_at_once: int | None = None,
    spread_over: int | None = None,
) -> EvalResult:
    """autoresearch_trainer.evaluate.evaluate_bpb of this model.

    rows_at_once: at most so many sequences per forward pass (default: a batch); fewer are taken when memory runs out.
    Which rows are read does not depend on it.
    """
    losses = _Losses(model, min(rows_at_once or batch_size, batch_size))
    return shared.evaluate_bpb(losses, dataset, batch_size, sequence_len, eval_tokens, on_batch, spread_over)


def evaluate_rungs(
    model: GPT,
    dataset: Any,
    batch_size: int,
    sequence_len: int,
    tokens: Mapping[str, int],
    on_batch: OnBatch | None = None,
) -> dict[str, EvalResult]:
    """autoresearch_trainer.evaluate.evaluate_rungs of this model."""
    losses = _Losses(model, batch_size)
    return shared.evaluate_rungs(losses, dataset, batch_size, sequence_len, tokens, on_batch)


def evaluate_rows(
    model: GPT,
    dataset: Any,
    batch_size: int,
    sequence_len: int,
    chosen: Sequence[int],
    on_batch: OnBatch | None = None,
) -> Rows:
    """autoresearch_trainer.evaluate.evaluate_rows of this model."""
    return shared.evaluate_rows(_Losses(model, batch_size), dataset, batch_size, sequence_len, chosen, on_batch)


class _Losses:
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
