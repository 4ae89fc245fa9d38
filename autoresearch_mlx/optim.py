"""MuonAdamW: Muon for the matrices of the blocks, AdamW for tables, head and scalars.

The arithmetic is in the targets `muon_update` and `adamw_update`; here are the groups, the names of their state and
their settings. An update is a pure function of parameters, gradients and state, so that it can be compiled.
"""

from dataclasses import dataclass

import mlx.core as mx

from autoresearch_mlx.model import GPT, Params
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.ops import Ops
from autoresearch_trainer.optim import ADAM_EPS, MUON_BETA2, NEWTON_SCHULZ_STEPS, AdamWSettings, adamw_settings, muon_lr

# The scalars that `MuonAdamW.update` hands to a kernel as arrays of shape (), by target.
AS_ARRAYS = {"adamw_update": ("step", "lr"), "muon_update": ("mu", "lr", "weight_decay")}


@dataclass(frozen=True)
class AdamWGroup:
    """Names of the parameters that share AdamW's settings. State is in the parameter's dtype."""

    settings: AdamWSettings
    params: tuple[str, ...]

    def state_names(self, number: int) -> tuple[str, str]:
        """Of the first and second moment of the parameter with that number."""
        return f"{self.settings.name}.{number}.m", f"{self.settings.name}.{number}.v"


@dataclass(frozen=True)
class MuonGroup:
    """Matrices of one shape, updated as one stack (N, R, C). State is float32 and stacked."""

    name: str
    params: tuple[str, ...]
    lr: float
    shape: tuple[int, int]

    def state_names(self) -> tuple[str, str]:
        """Of the momentum and of the second one."""
        return f"{self.name}.momentum", f"{self.name}.second_momentum"


class MuonAdamW:
    """The optimizer of one model. `state`: every state array, by the name it has in checkpoints."""

    def __init__(self, model: GPT, config: TrainConfig, ops: Ops) -> None:
        self.ops = ops
        self.weight_decay = config.weight_decay
        params: dict[str, tuple[str, ...]] = {
            "lm_head": ("lm_head.weight",),
            "wte": ("transformer.wte.weight",),
            "value_embeds": tuple(f"value_embeds.{i}.weight" for i in model.config.value_embed_layers()),
            "resid_lambdas": ("resid_lambdas",),
            "x0_lambdas": ("x0_lambdas",),
        }
        self.adamw = [AdamWGroup(settings, params[settings.name]) for settings in adamw_settings(config)]
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name, shape in model.shapes():
            if name.startswith("transformer.h."):
                rows, columns = shape
                by_shape.setdefault((rows, columns), []).append(name)
        self.muon = [
            MuonGroup(f"muon_{rows}x{columns}", tuple(names), muon_lr(config, rows, columns), (rows, columns))
            for (rows, columns), names in by_shape.items()
        ]
        self.state: Params = self._initial_state(model)

    def _initial_state(self, model: GPT) -> Params:
        state: Params = {}
        for group in self.adamw:
            for i, name in enumerate(group.params):
                for moment in group.state_names(i):
                    state[moment] = mx.zeros_like(model.params[name])
        for stack in self.muon:
            rows, columns = stack.shape
            count = len(stack.params)
            momentum, second = stack.state_names()
            state[momentum] = mx.zeros((count, rows, columns))
            state[second] = mx.zeros((count, rows, 1) if rows >= columns else (count, 1, columns))
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
            rate, beta1, beta2 = group.settings.lr * lr, group.settings.beta1, group.settings.beta2
            for i, name in enumerate(group.params):
                m, v = group.state_names(i)
                new[name], kept[m], kept[v] = self.ops.adamw_update(
                    params[name], grads[name], state[m], state[v], step, rate, beta1, beta2, ADAM_EPS, 0.0
                )
        for stack in self.muon:
            first, second = stack.state_names()
            updated, kept[first], kept[second] = self.ops.muon_update(
                mx.stack([params[name] for name in stack.params]),
                mx.stack([grads[name] for name in stack.params]),
                state[first],
                state[second],
                mu,
                stack.lr * lr,
                self.weight_decay * decay,
                MUON_BETA2,
                NEWTON_SCHULZ_STEPS,
            )
            for i, name in enumerate(stack.params):
                new[name] = updated[i]
        return new, kept
