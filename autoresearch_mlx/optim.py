"""MuonAdamW: Muon for the matrices of the blocks, AdamW for tables, head and scalars.

The arithmetic is in the targets `muon_update` and `adamw_update`; here are the groups, the names of their state and
their settings. An update is a pure function of parameters, gradients and state, so that it can be compiled.
"""

from dataclasses import dataclass

import mlx.core as mx

from autoresearch_mlx.model import GPT, Params
from autoresearch_mlx.ops import Ops
from autoresearch_trainer.config import TrainConfig

REFERENCE_WIDTH = 768  # the learning rates are tuned at this width
ADAM_EPS = 1e-10
X0_LAMBDA_BETA1 = 0.96
RESID_LR_FACTOR = 0.01
MUON_BETA2 = 0.95
NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class AdamWGroup:
    """Parameters that share AdamW's settings. State is in the parameter's dtype. No weight decay."""

    name: str
    params: tuple[str, ...]
    lr: float
    beta1: float
    beta2: float


@dataclass(frozen=True)
class MuonGroup:
    """Matrices of one shape, updated as one stack (N, R, C). State is float32 and stacked."""

    name: str
    params: tuple[str, ...]
    lr: float
    shape: tuple[int, int]


class MuonAdamW:
    """The optimizer of one model. `state`: every state array, by the name it has in checkpoints."""

    def __init__(self, model: GPT, config: TrainConfig, ops: Ops) -> None:
        self.ops = ops
        self.weight_decay = config.weight_decay
        scale = (model.config.n_embd / REFERENCE_WIDTH) ** -0.5
        betas = (config.adam_beta1, config.adam_beta2)
        tables = tuple(f"value_embeds.{i}.weight" for i in model.config.value_embed_layers())
        self.adamw = [
            AdamWGroup("lm_head", ("lm_head.weight",), config.unembedding_lr * scale, *betas),
            AdamWGroup("wte", ("transformer.wte.weight",), config.embedding_lr * scale, *betas),
            AdamWGroup("value_embeds", tables, config.embedding_lr * scale, *betas),
            AdamWGroup("resid_lambdas", ("resid_lambdas",), config.scalar_lr * RESID_LR_FACTOR, *betas),
            AdamWGroup("x0_lambdas", ("x0_lambdas",), config.scalar_lr, X0_LAMBDA_BETA1, config.adam_beta2),
        ]
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name, shape in model.shapes():
            if name.startswith("transformer.h."):
                by_shape.setdefault(shape, []).append(name)
        # Tall matrices get a proportionally larger step.
        self.muon = [
            MuonGroup(f"muon_{r}x{c}", tuple(names), config.matrix_lr * max(1.0, r / c) ** 0.5, (r, c))
            for (r, c), names in by_shape.items()
        ]
        self.state: Params = self._initial_state(model)

    def _initial_state(self, model: GPT) -> Params:
        state: Params = {}
        for group in self.adamw:
            for i, name in enumerate(group.params):
                for kind in ("m", "v"):
                    state[f"{group.name}.{i}.{kind}"] = mx.zeros_like(model.params[name])
        for group in self.muon:
            rows, columns = group.shape
            count = len(group.params)
            state[f"{group.name}.momentum"] = mx.zeros((count, rows, columns))
            reduced = (count, rows, 1) if rows >= columns else (count, 1, columns)
            state[f"{group.name}.second_momentum"] = mx.zeros(reduced)
        mx.eval(state)
        return state

    def update(
        self, params: Params, grads: Params, state: Params, step: mx.array, lr: mx.array, decay: mx.array, mu: mx.array
    ) -> tuple[Params, Params]:
        """(parameters, state) after one step.

        step counts from 1 (() int32); lr and decay multiply the configured values, mu is Muon's momentum (() float32).
        Arrays, because compiled code would take a Python number for a constant.
        """
        new, kept = dict(params), dict(state)
        for group in self.adamw:
            for i, name in enumerate(group.params):
                m, v = f"{group.name}.{i}.m", f"{group.name}.{i}.v"
                new[name], kept[m], kept[v] = self.ops.adamw_update(
                    params[name],
                    grads[name],
                    state[m],
                    state[v],
                    step,
                    group.lr * lr,
                    group.beta1,
                    group.beta2,
                    ADAM_EPS,
                    0.0,
                )
        for group in self.muon:
            first, second = f"{group.name}.momentum", f"{group.name}.second_momentum"
            updated, kept[first], kept[second] = self.ops.muon_update(
                mx.stack([params[name] for name in group.params]),
                mx.stack([grads[name] for name in group.params]),
                state[first],
                state[second],
                mu,
                group.lr * lr,
                self.weight_decay * decay,
                MUON_BETA2,
                NEWTON_SCHULZ_STEPS,
            )
            for i, name in enumerate(group.params):
                new[name] = updated[i]
        return new, kept
