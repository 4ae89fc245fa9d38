"""Settings of MuonAdamW that both engines share: which parameters go together, and their learning rates."""

from dataclasses import dataclass

from autoresearch_trainer.config import TrainConfig

REFERENCE_WIDTH = 768  # the learning rates are tuned at this width
ADAM_EPS = 1e-10
X0_LAMBDA_BETA1 = 0.96
RESID_LR_FACTOR = 0.01
MUON_BETA2 = 0.95
NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class AdamWSettings:
    """AdamW's settings of one group of parameters. No weight decay."""

    name: str
    lr: float
    beta1: float
    beta2: float


def adamw_settings(config: TrainConfig) -> list[AdamWSettings]:
    """The groups in the order in which they are updated; all that is no matrix of a block."""
    scale = (config.model.n_embd / REFERENCE_WIDTH) ** -0.5
    beta1, beta2 = config.adam_beta1, config.adam_beta2
    return [
        AdamWSettings("lm_head", config.unembedding_lr * scale, beta1, beta2),
        AdamWSettings("wte", config.embedding_lr * scale, beta1, beta2),
        AdamWSettings("value_embeds", config.embedding_lr * scale, beta1, beta2),
        AdamWSettings("resid_lambdas", config.scalar_lr * RESID_LR_FACTOR, beta1, beta2),
        AdamWSettings("x0_lambdas", config.scalar_lr, X0_LAMBDA_BETA1, beta2),
    ]


def muon_lr(config: TrainConfig, rows: int, columns: int) -> float:
    """Muon's learning rate of matrices of this shape: tall ones get a proportionally larger step."""
    return config.matrix_lr * max(1.0, rows / columns) ** 0.5
