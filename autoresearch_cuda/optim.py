"""MuonAdamW: Muon for the matrices of the blocks, AdamW for tables, head and scalars.

The arithmetic is in the targets `muon_update` and `adamw_update`; here are the groups, their state and their schedules.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from autoresearch_cuda.model import GPT
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.ops import Ops
from autoresearch_trainer.optim import ADAM_EPS, MUON_BETA2, NEWTON_SCHULZ_STEPS, AdamWSettings, adamw_settings, muon_lr


@dataclass
class AdamWGroup:
    """Parameters that share AdamW's settings. State is in the parameter's dtype."""

    settings: AdamWSettings
    params: list[Tensor]
    exp_avg: list[Tensor]
    exp_avg_sq: list[Tensor]

    @classmethod
    def of(cls, settings: AdamWSettings, params: Iterable[Tensor]) -> "AdamWGroup":
        params = list(params)
        zeros = [[torch.zeros_like(p) for p in params] for _ in range(2)]
        return cls(settings, params, *zeros)

    def state(self) -> dict[str, Tensor]:
        pairs = enumerate(zip(self.exp_avg, self.exp_avg_sq, strict=True))
        return {f"{self.settings.name}.{i}.{kind}": t for i, p in pairs for kind, t in zip(("m", "v"), p, strict=True)}


@dataclass
class MuonGroup:
    """Matrices of one shape, updated as one stack (N, R, C). State is float32 and stacked."""

    name: str
    params: list[Tensor]
    lr: float
    momentum: Tensor
    second_momentum: Tensor

    @classmethod
    def of(cls, params: list[Tensor], config: TrainConfig) -> "MuonGroup":
        rows, columns = params[0].shape
        momentum = torch.zeros(len(params), rows, columns, device=params[0].device)
        second = momentum[:, :, :1] if rows >= columns else momentum[:, :1, :]
        lr = muon_lr(config, rows, columns)
        return cls(f"muon_{rows}x{columns}", params, lr, momentum, torch.zeros_like(second))

    def state(self) -> dict[str, Tensor]:
        return {f"{self.name}.momentum": self.momentum, f"{self.name}.second_momentum": self.second_momentum}


class MuonAdamW:
    """The optimizer of one model. All state lives in the groups; `state()` names it for checkpoints."""

    def __init__(self, model: GPT, config: TrainConfig, ops: Ops) -> None:
        self.ops = ops
        self.steps_done = 0
        self.weight_decay = config.weight_decay
        params: dict[str, list[Tensor]] = {
            "lm_head": [model.lm_head.weight],
            "wte": [model.transformer.wte.weight],
            "value_embeds": list(model.value_embeds.parameters()),
            "resid_lambdas": [model.resid_lambdas],
            "x0_lambdas": [model.x0_lambdas],
        }
        self.adamw = [AdamWGroup.of(settings, params[settings.name]) for settings in adamw_settings(config)]
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for p in model.transformer.h.parameters():
            by_shape.setdefault(p.shape, []).append(p)
        self.muon = [MuonGroup.of(params, config) for params in by_shape.values()]

    @torch.no_grad()
    def step(self, lr_multiplier: float, weight_decay_multiplier: float, momentum: float) -> None:
        """One update from the gradients that the parameters carry."""
        self.steps_done += 1
        for group in self.adamw:
            lr, beta1, beta2 = group.settings.lr * lr_multiplier, group.settings.beta1, group.settings.beta2
            for p, m, v in zip(group.params, group.exp_avg, group.exp_avg_sq, strict=True):
                self.ops.adamw_update(p, p.grad, m, v, self.steps_done, lr, beta1, beta2, ADAM_EPS, 0.0)
        for stack in self.muon:
            grads = [p.grad for p in stack.params]
            updated, stack.momentum, stack.second_momentum = self.ops.muon_update(
                torch.stack(stack.params),
                torch.stack(grads),  # type: ignore[arg-type]  # after a backward pass every matrix has one
                stack.momentum,
                stack.second_momentum,
                momentum,
                stack.lr * lr_multiplier,
                self.weight_decay * weight_decay_multiplier,
                MUON_BETA2,
                NEWTON_SCHULZ_STEPS,
            )
            torch._foreach_copy_(stack.params, list(updated.unbind(0)))

    @property
    def groups(self) -> list[AdamWGroup | MuonGroup]:
        return [*self.adamw, *self.muon]

    def zero_grad(self) -> None:
        for group in self.groups:
            for p in group.params:
                p.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every state tensor by name; the tensors themselves, not copies."""
        return {name: t for group in self.groups for name, t in group.state().items()}
