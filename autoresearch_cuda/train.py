"""`Trainer`: the model, the optimizer and the data of one run, advanced one optimizer step at a time."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoresearch_cuda.attention import may_break_graphs
from autoresearch_cuda.config import TrainConfig
from autoresearch_cuda.errors import ConfigError, TrainingFailed
from autoresearch_cuda.model import GPT
from autoresearch_cuda.ops import Ops
from autoresearch_cuda.optim import MuonAdamW
from autoresearch_cuda.schedule import lr_multiplier, muon_momentum, weight_decay_multiplier
from autoresearch_data.packing import BestFitLoader

UNTIMED_STEPS = 11  # warm-up: not part of the time budget, nor of tokens per second
LOSS_LIMIT = 100.0


@dataclass(frozen=True)
class StepResult:
    """loss: nats per token of the step's last micro-batch; seconds: wall time, data included; tokens: trained on."""

    loss: float
    seconds: float
    tokens: int


class Trainer:
    """One training run in progress. Deterministic on the CPU: the same configuration gives the same bits.

    dataset: `.tokenizer` (vocab_size, bos_id, token_bytes) and `.split("train")`. Raises ConfigError where the
    dataset's vocabulary is not the model's.
    """

    def __init__(self, config: TrainConfig, ops: Ops, dataset: Any, device: torch.device | str = "cpu") -> None:
        if dataset.tokenizer.vocab_size != config.model.vocab_size:
            raise ConfigError(
                f"the dataset has a vocabulary of {dataset.tokenizer.vocab_size} tokens, "
                f"the model one of {config.model.vocab_size}"
            )
        self.config = config
        self.ops = ops
        self.dataset = dataset
        self.device = torch.device(device)
        self.model = GPT(config.model, ops, getattr(torch, config.compute_dtype), self.device)
        self.model.init_weights(config.seed)
        self.optimizer = MuonAdamW(self.model, config, ops)
        self.forward = self._compiled() if config.compile else self.model
        self.steps_done = 0
        self.timed_steps = 0
        self.training_seconds = 0.0
        self.loader = self.new_loader()
        self.batch = self._next_batch()

    def _compiled(self) -> torch.nn.Module:
        """The model as one graph; a kernel that would break it fails the run instead."""
        breaks = may_break_graphs(self.device.type, self.model.compute_dtype)
        return torch.compile(self.model, dynamic=False, fullgraph=not breaks)

    def new_loader(self, state: dict[str, Any] | None = None) -> BestFitLoader:
        """The training data from its start, or from where `state` says."""
        config, tokens = self.config, self.dataset.split("train")
        bos_id = self.dataset.tokenizer.bos_id
        return BestFitLoader(tokens, config.batch_size, config.model.sequence_len, bos_id, state=state)

    def _next_batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T) int64 on the device."""
        inputs, targets, self.epoch = next(self.loader)
        return self._to_device(inputs), self._to_device(targets)

    def _to_device(self, ids: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(ids).to(torch.int64)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1: by steps where their number is fixed, else by counted time."""
        if self.config.steps is not None:
            return min(self.steps_done / self.config.steps, 1.0)
        return min(self.training_seconds / self.config.time_budget, 1.0)

    @property
    def finished(self) -> bool:
        if self.config.steps is not None:
            return self.steps_done >= self.config.steps
        return self.steps_done >= UNTIMED_STEPS and self.training_seconds >= self.config.time_budget

    def step(self) -> StepResult:
        """One optimizer step. Raises TrainingFailed if the loss is NaN or above 100.

        The gradients stay on the parameters until the next step begins.
        """
        config = self.config
        started = time.perf_counter()
        self.optimizer.zero_grad()
        for _ in range(config.accumulation):
            loss = self.forward(*self.batch)
            (loss if config.accumulation == 1 else loss / config.accumulation).backward()
            # Packing on the CPU overlaps with the backward pass on a GPU.
            self.batch = self._next_batch()
        progress = self.progress
        self.optimizer.step(
            lr_multiplier(progress, config.warmup_ratio, config.warmdown_ratio, config.final_lr_fraction),
            weight_decay_multiplier(progress),
            muon_momentum(self.steps_done),
        )
        value = loss.item()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - started
        if not value <= LOSS_LIMIT:
            raise TrainingFailed(
                f"loss is {value:.4g} at step {self.steps_done}; largest gradient: {self.largest_gradient()}"
            )
        if self.steps_done >= UNTIMED_STEPS:
            self.training_seconds += seconds
            self.timed_steps += 1
        self.steps_done += 1
        return StepResult(value, seconds, config.total_batch_tokens)

    def largest_gradient(self) -> str:
        """Name and norm of the parameter whose gradient is largest; one that is not finite comes first."""
        norms = {n: p.grad.float().norm().item() for n, p in self.model.named_parameters() if p.grad is not None}
        if not norms:
            return "none"
        name = max(norms, key=lambda n: norms[n] if math.isfinite(norms[n]) else math.inf)
        return f"{name} (norm {norms[name]:.4g})"
