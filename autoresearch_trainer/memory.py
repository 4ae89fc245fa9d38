"""How much memory a run takes, how much there is, and the batch that fits.

An estimate from the shapes alone, so that it can be made before anything is allocated. It counts what the backward pass
keeps per token, what the loss needs at its peak, and what every parameter takes with its optimizer state.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psutil

from autoresearch_trainer import control_group
from autoresearch_trainer.config import GPTConfig, Preset, TrainConfig
from autoresearch_trainer.engine import TrainerEngine
from autoresearch_trainer.errors import ConfigError, OutOfMemory

# Kept for the backward pass per layer and token, in multiples of one row of the residual stream. Eager: the float32
# copies inside the four norms (8), their outputs (4), v, the attention's output and the mixed stream (3), squared ReLU
# and its input (8), the gathered value embedding on every second layer, and copies (2.5). Compiled code recomputes the
# norms' copies and the mixing.
ROWS_EAGER, ROWS_COMPILED = 26.0, 18.5
# Of the loss, in bytes per token and vocabulary entry. Eager: bfloat16 logits and their gradient, and at the peak four
# float32 arrays; compiled: the logits and their gradient, and on the CPU one float32 array.
LOSS_EAGER, LOSS_COMPILED = 20, {"cpu": 8, "cuda": 4, "mlx": 20}  # on MPS nothing is compiled
# Allocated against live: the CPU's allocator keeps freed memory in pieces.
SLACK = {"cpu": 1.5, "cuda": 1.05, "mlx": 1.3, "mps": 1.5}
PROCESS_BYTES = {"cpu": 400 << 20, "cuda": 600 << 20, "mlx": 300 << 20, "mps": 400 << 20}
USABLE = 0.85  # of what is free when the run begins


@dataclass(frozen=True)
class Fit:
    """A configuration whose batch was fitted. `why` says what decided; estimate and available are in bytes."""

    config: TrainConfig
    estimate: int
    available: int
    why: str


def bytes_per_token(model: GPTConfig, device: str, compiled: bool, width: int = 2) -> float:
    """Memory per token of a micro-batch in bytes; `width`: bytes of the compute dtype."""
    row = model.n_embd * width
    kept = (ROWS_COMPILED if compiled else ROWS_EAGER) * row
    if device != "cuda":
        # The softmax weights, which fused attention does not keep; MLX keeps the scores beside them.
        kept += model.n_head * model.sequence_len * width * (2 if device == "mlx" else 1)
    loss = LOSS_COMPILED[device] if compiled else LOSS_EAGER
    return model.n_layer * kept + loss * model.vocab_size + 3 * row


def evaluation_bytes_per_token(model: GPTConfig, width: int = 2) -> float:
    """The same without a backward pass: one layer's rows, and the loss in eager mode without its gradient."""
    return ROWS_EAGER * model.n_embd * width + (2 + 4 * 4) * model.vocab_size


def fixed_bytes(model: GPTConfig, width: int = 2) -> int:
    """Parameters, gradients, optimizer state and what an optimizer step takes on top, whatever the batch."""
    d, kv = model.n_embd, model.n_kv_head * model.head_dim
    matrices = model.n_layer * (2 * d * d + 2 * d * kv + 8 * d * d)
    tables = model.vocab_size * (d + len(model.value_embed_layers()) * kv)
    head = model.vocab_size * d
    # float32 master, gradient and momentum, the cast copy; and the largest group once more in five stacked arrays.
    largest = model.n_layer * 4 * d * d
    return matrices * (12 + width) + largest * 20 + head * (16 + width + 4) + tables * 5 * width


def estimate_bytes(config: TrainConfig, device: str) -> int:
    """Peak memory of training with this configuration, in bytes."""
    width = 2 if config.compute_dtype == "bfloat16" else 4
    tokens = config.micro_batch_tokens
    live = fixed_bytes(config.model, width) + tokens * bytes_per_token(config.model, device, config.compile, width)
    return int(live * SLACK[device]) + PROCESS_BYTES[device]


def evaluation_rows(config: TrainConfig, device: str) -> int:
    """Sequences per forward pass of the evaluation that take no more memory than training did."""
    width = 2 if config.compute_dtype == "bfloat16" else 4
    training = config.batch_size * bytes_per_token(config.model, device, config.compile, width)
    return max(1, min(config.batch_size, int(training / evaluation_bytes_per_token(config.model, width))))


def system_bytes() -> int:
    """Free memory of the system within this process's control groups."""
    free, left = psutil.virtual_memory().available, control_group.memory_left()
    return free if left is None else min(free, left)


def resident_bytes() -> int:
    """What this process holds: a new one gets it back."""
    return psutil.Process().memory_info().rss


def fit_batch(config: TrainConfig, preset: Preset, device: str, available: int) -> Fit:
    """The largest batch that fits, with the same tokens per optimizer step: what does not fit is accumulated.

    On a CPU at most the preset's batch. On a GPU larger ones as well, up to the whole optimizer step, and the preset's
    data-centre batch where there is memory for it. Evaluation keeps the preset's batches.

    Raises ConfigError where not even one sequence fits.
    """
    usable = int(available * USABLE)
    nominal = preset.batch_size
    config = replace(config, eval_batch_size=preset.evaluated_batch)
    if device == "cuda" and preset.data_centre:
        batch, tokens = preset.data_centre
        large = replace(config, batch_size=batch, total_batch_tokens=tokens)
        if estimate_bytes(large, device) <= usable:
            return Fit(large, estimate_bytes(large, device), available, "the preset's data-centre batch fits")
    rows = config.total_batch_tokens // config.model.sequence_len
    largest = rows if device == "cuda" else min(nominal, rows)
    for batch in range(largest, 0, -1):
        if rows % batch:
            continue
        fitted = replace(config, batch_size=batch)
        estimate = estimate_bytes(fitted, device)
        if estimate <= usable:
            relation = "smaller" if batch < nominal else "larger"
            fitted_why = f"{relation} than the preset's {nominal}, as the memory allows"
            why = "the preset's" if batch == nominal else fitted_why
            return Fit(fitted, estimate, available, why)
    smallest = estimate_bytes(replace(config, batch_size=1), device)
    raise ConfigError(
        f"preset {config.preset} needs about {gib(smallest)} even with one sequence at a time, {gib(available)} are "
        "free; take a smaller preset, or try --batch-size 1"
    )


def fitting_batch(config: TrainConfig, device: str, available: int) -> int | None:
    """After memory ran out with `config`: the largest smaller batch that should fit; None if there is none."""
    rows = config.total_batch_tokens // config.model.sequence_len
    smaller = [batch for batch in range(config.batch_size // 2, 0, -1) if rows % batch == 0]
    fitting = [b for b in smaller if estimate_bytes(replace(config, batch_size=b), device) <= available * USABLE]
    return next(iter(fitting or smaller[-1:]), None)


@contextmanager
def explained(engine: TrainerEngine, config: TrainConfig, device: str) -> Iterator[None]:
    """Turn running out of memory into one line that names the batch that would fit into what a new process would have.

    Raises OutOfMemory for what the engine takes for it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not engine.is_out_of_memory(error):
            raise
        batch = fitting_batch(config, device, engine.available_bytes(device) + engine.own_bytes(device))
        remedy = f"--batch-size {batch} should fit" if batch else "take a smaller preset"
        raise OutOfMemory(
            f"out of memory with a batch of {config.batch_size} sequences (estimated need "
            f"{gib(estimate_bytes(config, device))}); {remedy}, with the same tokens per step"
        ) from error


def gib(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.1f} GiB" if math.isfinite(size) else "unknown"
