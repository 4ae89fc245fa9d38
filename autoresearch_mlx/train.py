"""`Trainer`: the model, the optimizer and the data of one run, advanced one optimizer step at a time."""

import math
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_data.dataset import Dataset
from autoresearch_mlx.kernel_files import traced
from autoresearch_mlx.model import GPT, Params
from autoresearch_mlx.optim import MuonAdamW
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.ops import Ops
from autoresearch_trainer.train import StepResult, TrainerBase


class Trainer(TrainerBase):
    """One training run in progress. Deterministic on the CPU: the same configuration gives the same bits.

    `device` is "mlx" whatever MLX runs on. Raises ConfigError where the dataset's vocabulary is not the model's.
    """

    model: GPT

    def __init__(self, config: TrainConfig, ops: Ops, dataset: Dataset, device: str = "mlx") -> None:
        super().__init__(config, ops, dataset)
        self.device = device
        self.model = GPT(config.model, ops, getattr(mx, config.compute_dtype))
        self.model.init_weights(config.seed)
        self.optimizer = MuonAdamW(self.model, config, ops)
        self.grads: Params | None = None
        self._loss_and_grads = mx.value_and_grad(self.model)
        self.prepare(lambda function: mx.compile(traced(function)))
        self.batch = self._next_batch()

    def prepare(self, compiled: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Make the functions of a step. compiled: how, where the configuration wants them compiled."""
        made = compiled if self.config.compile else lambda function: function
        # With one pass per step everything is one graph; with several, the passes share one and the update has its own.
        self.whole_step = made(self._whole_step)
        self.first_pass, self.later_pass = made(self._first_pass), made(self._later_pass)
        self.update = made(self.optimizer.update)

    def _next_batch(self) -> tuple[mx.array, mx.array]:
        """Inputs and targets (B, T) int32."""
        inputs, targets, self.epoch = next(self.loader)
        return mx.array(inputs.astype(np.int32)), mx.array(targets.astype(np.int32))

    def _scaled(self, loss_and_grads: tuple[mx.array, Params]) -> tuple[mx.array, Params]:
        loss, grads = loss_and_grads
        share = 1 / self.config.accumulation
        return loss, {name: g * share for name, g in grads.items()}

    def _first_pass(self, params: Params, inputs: mx.array, targets: mx.array) -> tuple[mx.array, Params]:
        return self._scaled(self._loss_and_grads(params, inputs, targets))

    def _later_pass(
        self, params: Params, inputs: mx.array, targets: mx.array, before: Params
    ) -> tuple[mx.array, Params]:
        loss, grads = self._scaled(self._loss_and_grads(params, inputs, targets))
        return loss, {name: before[name] + g for name, g in grads.items()}

    def _whole_step(
        self, params: Params, state: Params, inputs: mx.array, targets: mx.array, *scalars: mx.array
    ) -> tuple[mx.array, Params, Params, Params]:
        loss, grads = self._loss_and_grads(params, inputs, targets)
        return loss, grads, *self.optimizer.update(params, grads, state, *scalars)

    def scalars(self) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """Number of the step () int32; multipliers of learning rate and weight decay, and momentum: () float32 each."""
        lr, decay, momentum = self.schedules()
        return mx.array(self.steps_done + 1), mx.array(lr), mx.array(decay), mx.array(momentum)

    def step(self) -> StepResult:
        """One optimizer step. Raises TrainingFailed if the loss is NaN or above 100.

        The gradients are kept until the next step begins.
        """
        started = time.perf_counter()
        self.grads = None
        passes = self.config.accumulation
        if passes == 1:
            model, optimizer = self.model, self.optimizer
            loss, self.grads, model.params, optimizer.state = self.whole_step(
                model.params, optimizer.state, *self.batch, *self.scalars()
            )
            mx.async_eval(loss, self.grads, model.params, optimizer.state)
            # Packing on the CPU overlaps with the step on a GPU.
            self.batch = self._next_batch()
        else:
            loss = self._accumulated(passes)
        mx.eval(loss, self.model.params, self.optimizer.state)
        return self.end_step(loss.item(), time.perf_counter() - started)

    def _accumulated(self, passes: int) -> mx.array:
        """Gradients of several micro-batches, added up, then the update; returns the last one's loss."""
        model, optimizer = self.model, self.optimizer
        grads: Params | None = None
        for _ in range(passes):
            if grads is None:
                loss, grads = self.first_pass(model.params, *self.batch)
            else:
                loss, grads = self.later_pass(model.params, *self.batch, grads)
            # Evaluated pass by pass: a graph of all of them would hold every pass's activations.
            mx.async_eval(loss, grads)
            self.batch = self._next_batch()
            mx.eval(loss, grads)
        self.grads = grads
        model.params, optimizer.state = self.update(model.params, grads, optimizer.state, *self.scalars())
        return loss

    def drop_gradients(self) -> None:
        self.grads = None

    def largest_gradient(self) -> str:
        """Name and norm of the parameter whose gradient is largest; one that is not finite comes first."""
        norms: dict[str, Any] = {n: mx.linalg.norm(g.astype(mx.float32)).item() for n, g in (self.grads or {}).items()}
        if not norms:
            return "none"
        name = max(norms, key=lambda n: norms[n] if math.isfinite(norms[n]) else math.inf)
        return f"{name} (norm {norms[name]:.4g})"
