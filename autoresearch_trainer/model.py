"""What the models of both engines have in common: constants, how work is counted, how they are described."""

from dataclasses import asdict
from typing import cast

from autoresearch_trainer.config import GPTConfig
from autoresearch_trainer.record import ModelDescription

NORM_EPS = 1.1920929e-07  # float32's machine epsilon; a bare default would depend on dtype and version
ROPE_BASE = 10_000.0
SOFTCAP = 15.0
RESID_LAMBDA_INIT, X0_LAMBDA_INIT = 1.0, 0.1


class Model:
    """Base of an engine's GPT."""

    config: GPTConfig

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters by kind ("wte", "value_embeds", "lm_head", "matrices", "scalars"), and "total"."""
        raise NotImplementedError

    def flops_per_token(self) -> int:
        """FLOP of forward and backward per token: 6 per matrix weight, and attention counted without causality
        (12·H·D per visible key slot), as the figures published for this model do."""
        counts, config = self.parameter_counts(), self.config
        keys = sum(min(window, config.sequence_len) for window in config.windows())
        return 6 * (counts["lm_head"] + counts["matrices"]) + 12 * config.n_head * config.head_dim * keys

    def describe(self) -> ModelDescription:
        counts, flops = self.parameter_counts(), self.flops_per_token()
        return cast(ModelDescription, {**asdict(self.config), "parameters": counts, "flops_per_token": flops})
