"""MuonAdamW: Muon for the matrices of the blocks, AdamW for tables, head and scalars.

The arithmetic is in the targets `muon_update` and `adamw_update`; here are the groups, their state and their schedules.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from autoresearch_cuda.model import GPT
from autoresearch_cuda.ops import Ops
from autoresearch_trainer.config import TrainConfig

REFERENCE_WIDTH = 768  # the learning rates are tuned at this width
ADAM_EPS = 1e-10
X0_LAMBDA_BETA1 = 0.96
RESID_LR_FACTOR = 0.01
MUON_BETA2 = 0.95
NEWTON_SCHULZ_STEPS = 5


@dataclass
class AdamWGroup:
    """Parameters that share AdamW's settings. State is in the parameter's dtype. No weight decay."""

    name: str
    params: list[Tensor]
    lr: float
    beta1: float
    beta2: float
    exp_avg: list[Tensor]
    exp_avg_sq: list[Tensor]

    @classmethod
    def of(cls, name: str, params: list[Tensor], lr: float, beta1: float, beta2: float) -> "AdamWGroup":
        zeros = [[torch.zeros_like(p) for p in params] for _ in range(2)]
        return cls(name, params, lr, beta1, beta2, *zeros)

    def state(self) -> dict[str, Tensor]:
        pairs = enumerate(zip(self.exp_avg, self.exp_avg_sq, strict=True))
        return {f"{self.name}.{i}.{kind}": t for i, p in pairs for kind, t in zip(("m", "v"), p, strict=True)}


@dataclass
class MuonGroup:
    """Matrices of one shape, updated as one stack (N, R, C). State is float32 and stacked."""

    name: str
    params: list[Tensor]
    lr: float
    momentum: Tensor
    second_momentum: Tensor

    @classmethod
    def of(cls, params: list[Tensor], lr: float) -> "MuonGroup":
        rows, columns = params[0].shape
        momentum = torch.zeros(len(params), rows, columns, device=params[0].device)
        second = momentum[:, :, :1] if rows >= columns else momentum[:, :1, :]
        # Tall matrices get a proportionally larger step.
        lr = lr * max(1.0, rows / columns) ** 0.5
        return cls(f"muon_{rows}x{columns}", params, lr, momentum, torch.zeros_like(second))

    def state(self) -> dict[str, Tensor]:
        return {f"{self.name}.momentum": self.momentum, f"{self.name}.second_momentum": self.second_momentum}


class MuonAdamW:
    """The optimizer of one model. All state lives in the groups; `state()` names it for checkpoints."""

    def __init__(self, model: GPT, config: TrainConfig, ops: Ops) -> None:
        self.ops = ops
        self.steps_done = 0
        self.weight_decay = config.weight_decay
        scale = (model.config.n_embd / REFERENCE_WIDTH) ** -0.5
        betas = (config.adam_beta1, config.adam_beta2)
        tables = [p for table in model.value_embeds.values() for p in table.parameters()]
        self.adamw = [
            AdamWGroup.of("lm_head", [model.lm_head.weight], config.unembedding_lr * scale, *betas),
            AdamWGroup.of("wte", [model.transformer.wte.weight], config.embedding_lr * scale, *betas),
            AdamWGroup.of("value_embeds", tables, config.embedding_lr * scale, *betas),
            AdamWGroup.of("resid_lambdas", [model.resid_lambdas], config.scalar_lr * RESID_LR_FACTOR, *betas),
            AdamWGroup.of("x0_lambdas", [model.x0_lambdas], config.scalar_lr, X0_LAMBDA_BETA1, config.adam_beta2),
        ]
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for p in model.transformer.h.parameters():
            by_shape.setdefault(p.shape, []).append(p)
        self.muon = [MuonGroup.of(params, config.matrix_lr) for params in by_shape.values()]

    @torch.no_grad()
    def step(self, lr_multiplier: float, weight_decay_multiplier: float, momentum: float) -> None:
        """One update from the gradients that the parameters carry."""
        self.steps_done += 1
        for group in self.adamw:
            for p, m, v in zip(group.params, group.exp_avg, group.exp_avg_sq, strict=True):
                self.ops.adamw_update(
                    p, p.grad, m, v, self.steps_done, group.lr * lr_multiplier, group.beta1, group.beta2, ADAM_EPS, 0.0
                )
        for group in self.muon:
            stacked = torch.stack(group.params)
            updated, group.momentum, group.second_momentum = self.ops.muon_update(
                stacked,
                torch.stack([p.grad for p in group.params]),
                group.momentum,
                group.second_momentum,
                momentum,
                group.lr * lr_multiplier,
                self.weight_decay * weight_decay_multiplier,
                MUON_BETA2,
                NEWTON_SCHULZ_STEPS,
            )
            torch._foreach_copy_(group.params, list(updated.unbind(0)))

    def zero_grad(self) -> None:
        for group in (*self.adamw, *self.muon):
            for p in group.params:
                p.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every state tensor by name; the tensors themselves, not copies."""
        return {name: t for group in (*self.adamw, *self.muon) for name, t in group.state().items()}
