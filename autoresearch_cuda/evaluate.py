"""Validation loss in bits per byte, on the first tokens of the validation split."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from autoresearch_cuda.errors import ConfigError
from autoresearch_cuda.model import GPT
from autoresearch_data.bpb import accumulate, bits_per_byte
from autoresearch_data.packing import BestFitLoader


@dataclass(frozen=True)
class EvalResult:
    """nats and bytes: sums over the targets that stand for at least one byte; tokens: all targets seen."""

    val_bpb: float
    nats: float
    bytes: int
    tokens: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def evaluate_bpb(
    model: GPT,
    dataset: Any,
    batch_size: int,
    sequence_len: int,
    eval_tokens: int,
    on_batch: Callable[[int, int], None] | None = None,
) -> EvalResult:
    """Evaluate on `eval_tokens` tokens, rounded down to whole batches of a fresh loader.

    Packing depends on the batch size, so results compare only at one batch size. `on_batch(done, total)` is called
    after every batch. Raises ConfigError if eval_tokens holds no batch.
    """
    batches = eval_tokens // (batch_size * sequence_len)
    if batches < 1:
        raise ConfigError(f"eval_tokens {eval_tokens} is less than one batch of {batch_size} x {sequence_len}")
    tokenizer = dataset.tokenizer
    loader = BestFitLoader(dataset.split("val"), batch_size, sequence_len, tokenizer.bos_id)
    device = model.lm_head.weight.device
    total_nats, total_bytes = 0.0, 0
    for done in range(1, batches + 1):
        inputs, targets, _ = next(loader)
        inputs_t, targets_t = (torch.from_numpy(a).to(device, torch.int64) for a in (inputs, targets))
        nats = model(inputs_t, targets_t, reduction="none")
        batch_nats, batch_bytes = accumulate(nats.double().cpu().numpy(), targets, tokenizer.token_bytes)
        total_nats += batch_nats
        total_bytes += batch_bytes
        if on_batch:
            on_batch(done, batches)
    tokens = batches * batch_size * sequence_len
    return EvalResult(bits_per_byte(total_nats, total_bytes), total_nats, total_bytes, tokens)
