"""`Trainer`: the model, the optimizer and the data of one run, advanced one optimizer step at a time."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from autoresearch_cuda import compile_cache
from autoresearch_cuda.attention import may_break_graphs
from autoresearch_cuda.model import GPT
from autoresearch_cuda.optim import MuonAdamW
from autoresearch_cuda.process import wait_for
from autoresearch_data.dataset import Dataset
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.ops import Ops
from autoresearch_trainer.train import StepResult, TrainerBase


class Trainer(TrainerBase):
    """One training run in progress. Deterministic on the CPU: the same configuration gives the same bits.

    dataset: `.tokenizer` (vocab_size, bos_id, token_bytes) and `.split("train")`. Raises ConfigError where the
    dataset's vocabulary is not the model's.
    """

    model: GPT

    def __init__(self, config: TrainConfig, ops: Ops, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        super().__init__(config, ops, dataset)
        self.device = torch.device(device)
        self.model = GPT(config.model, ops, getattr(torch, config.compute_dtype), self.device)
        self.model.init_weights(config.seed)
        self.optimizer = MuonAdamW(self.model, config, ops)
        self.forward: Callable[..., Tensor] = self._compiled() if config.compile else self.model
        self.batch = self._next_batch()

    def _compiled(self) -> Callable[..., Tensor]:
        """The model as one graph; a kernel that would break it fails the run instead."""
        if self.device.type == "cpu":
            compile_cache.try_instructions()
        breaks = may_break_graphs(self.device.type, self.model.compute_dtype)
        return torch.compile(self.model, dynamic=False, fullgraph=not breaks)

    def _next_batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T) int64 on the device."""
        inputs, targets, self.epoch = next(self.loader)
        return self._to_device(inputs), self._to_device(targets)

    def _to_device(self, ids: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(ids).to(torch.int64)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

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
        self.before_update()
        self.optimizer.step(*self.schedules())
        value = loss.item()
        wait_for(self.device)
        return self.end_step(value, time.perf_counter() - started)

    def drop_gradients(self) -> None:
        self.optimizer.zero_grad()

    def largest_gradient(self) -> str:
        """Name and norm of the parameter whose gradient is largest; one that is not finite comes first."""
        norms = {n: p.grad.float().norm().item() for n, p in self.model.named_parameters() if p.grad is not None}
        if not norms:
            return "none"
        name = max(norms, key=lambda n: norms[n] if math.isfinite(norms[n]) else math.inf)
        return f"{name} (norm {norms[name]:.4g})"
