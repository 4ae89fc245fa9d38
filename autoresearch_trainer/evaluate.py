"""Validation loss in bits per byte: on the first rows of the packed validation split, or on rows spread over it.

The first rows are those of the specification. They are no random sample: best-fit packing places the longest documents
first. Where only a part is read, rows at equal distances stand for the whole far better.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from autoresearch_data.bpb import accumulate, bits_per_byte
from autoresearch_data.dataset import Dataset
from autoresearch_data.packing import BestFitLoader
from autoresearch_trainer.errors import ConfigError, TrainingFailed
from autoresearch_trainer.record import Evaluation

OnBatch = Callable[[int, int], None]
# Losses in nats (B, T), float64, of inputs and targets (B, T), int32; an engine's BatchLosses makes it from a model.
Losses = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EvalResult:
    """nats and bytes: sums over the targets that stand for at least one byte; tokens: all targets seen.

    standard_error: of val_bpb as an estimate for the whole corpus, in bits per byte, from the spread between the rows.
    """

    val_bpb: float
    nats: float
    bytes: int
    tokens: int
    standard_error: float | None = None

    def checked(self, model: str) -> "EvalResult":
        """Itself. Raises TrainingFailed where val_bpb is no number: `model` has diverged."""
        if not math.isfinite(self.val_bpb):
            raise TrainingFailed(
                f"val_bpb of {model} is {self.val_bpb}: its weights or its kernels give no finite loss"
            )
        return self

    def to_json(self) -> Evaluation:
        return Evaluation(
            val_bpb=self.val_bpb,
            nats=self.nats,
            bytes=self.bytes,
            tokens=self.tokens,
            standard_error=self.standard_error,
        )


@dataclass(frozen=True)
class Rows:
    """nats (float64) and bytes (int64) of every evaluated row, in the order of the packed stream."""

    nats: np.ndarray
    bytes: np.ndarray
    sequence_len: int

    def result(self, chosen: Sequence[int] | None = None) -> EvalResult:
        """Bits per byte of the chosen rows, or of all. Raises ValueError where they stand for no byte."""
        nats, size = (self.nats, self.bytes) if chosen is None else (self.nats[chosen], self.bytes[chosen])
        total_nats, total_bytes = float(nats.sum()), int(size.sum())
        error = None
        if len(nats) > 1:
            # Of a ratio of two sums: the residuals of the rows' nats from their bytes' share.
            with np.errstate(invalid="ignore"):  # a diverged model's losses are not finite
                residuals = nats - total_nats / max(total_bytes, 1) * size
                spread = float(np.sqrt(residuals.var(ddof=1) * len(nats)))
            error = bits_per_byte(spread, total_bytes)
        bpb = bits_per_byte(total_nats, total_bytes)
        return EvalResult(bpb, total_nats, total_bytes, len(nats) * self.sequence_len, error)


def evaluate_bpb(
    losses: Losses,
    dataset: Dataset,
    batch_size: int,
    sequence_len: int,
    eval_tokens: int,
    on_batch: OnBatch | None = None,
    spread_over: int | None = None,
) -> EvalResult:
    """Evaluate on `eval_tokens` tokens, rounded down to whole batches, of a fresh loader.

    spread_over: take the rows at equal distances from the first so many tokens; default: the first rows.
    `on_batch(done, total)` is called after every batch.
    Raises ConfigError if eval_tokens holds no batch.
    """
    count = _rows(eval_tokens, batch_size, sequence_len)
    chosen = spread(count, max(count, (spread_over or 0) // sequence_len)) if spread_over else range(count)
    return evaluate_rows(losses, dataset, batch_size, sequence_len, chosen, on_batch).result()


def evaluate_rungs(
    losses: Losses,
    dataset: Dataset,
    batch_size: int,
    sequence_len: int,
    tokens: Mapping[str, int],
) -> dict[str, EvalResult]:
    """Several sizes of evaluation at the cost of the largest, over whose tokens the others are spread.

    tokens: name -> eval_tokens. Returns what evaluate_bpb gives for each. Raises ConfigError as it does.
    """
    counts = {name: _rows(count, batch_size, sequence_len) for name, count in tokens.items()}
    most = max(counts.values())
    rows = evaluate_rows(losses, dataset, batch_size, sequence_len, range(most))
    return {name: rows.result(spread(count, most)) for name, count in counts.items()}


def spread(count: int, total: int) -> list[int]:
    """`count` of the numbers below `total`, at equal distances."""
    return [i * total // count for i in range(count)]


def evaluate_rows(
    losses: Losses,
    dataset: Dataset,
    batch_size: int,
    sequence_len: int,
    chosen: Sequence[int],
    on_batch: OnBatch | None = None,
) -> Rows:
    """The losses of the rows with the rising numbers `chosen`, `batch_size` of them at a time; see evaluate_bpb."""
    token_bytes = dataset.tokenizer.token_bytes
    nats, size = [], []
    source = _packed_rows(dataset, sequence_len, chosen)
    batches = -(-len(chosen) // batch_size)
    for done in range(1, batches + 1):
        inputs, targets = (np.stack(arrays) for arrays in zip(*islice(source, batch_size), strict=True))
        for row, row_targets in zip(losses(inputs, targets), targets, strict=True):
            row_nats, row_bytes = accumulate(row, row_targets, token_bytes)
            nats.append(row_nats)
            size.append(row_bytes)
        if on_batch:
            on_batch(done, batches)
    return Rows(np.array(nats), np.array(size, dtype=np.int64), sequence_len)


def _packed_rows(dataset: Dataset, sequence_len: int, chosen: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets (T,) of the chosen rows. The rows are the same however many make a batch."""
    loader = BestFitLoader(dataset.split("val"), 1, sequence_len, dataset.tokenizer.bos_id)
    position = 0
    for number in chosen:
        while position <= number:
            inputs, targets, _ = next(loader)
            position += 1
        yield inputs[0], targets[0]


def _rows(eval_tokens: int, batch_size: int, sequence_len: int) -> int:
    """Rows of eval_tokens in whole batches."""
    batches = eval_tokens // (batch_size * sequence_len)
    if batches < 1:
        raise ConfigError(f"eval_tokens {eval_tokens} is less than one batch of {batch_size} x {sequence_len}")
    return batches * batch_size
