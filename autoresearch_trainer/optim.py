"""Settings of MuonAdamW that both engines share: which parameters go together, their learning rates, and how these,
weight decay and momentum change with progress (0 at the start of the run, 1 at its end)."""

from dataclasses import dataclass

from autoresearch_trainer.config import TrainConfig

REFERENCE_WIDTH = 768  # the learning rates are tuned at this width
ADAM_EPS = 1e-10
X0_LAMBDA_BETA1 = 0.96
RESID_LR_FACTOR = 0.01
MUON_BETA2 = 0.95
NEWTON_SCHULZ_STEPS = 5
MUON_MOMENTUM_START, MUON_MOMENTUM_END, MUON_MOMENTUM_STEPS = 0.85, 0.95, 300


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


def lr_multiplier(progress: float, warmup: float = 0.0, warmdown: float = 0.5, final: float = 0.0) -> float:
    """Linear warm-up over the first `warmup` of the run, 1, then linear over the last `warmdown` down to `final`."""
    if progress < warmup:
        return progress / warmup
    if progress <= 1 - warmdown or warmdown == 0:
        return 1.0
    cooled = min((1 - progress) / warmdown, 1.0)
    return cooled + (1 - cooled) * final


def weight_decay_multiplier(progress: float) -> float:
    """Linear from 1 to 0."""
    return 1.0 - progress


def muon_momentum(step: int) -> float:
    """From 0.85 to 0.95 over the first 300 steps, whatever the length of the run."""
    done = min(step / MUON_MOMENTUM_STEPS, 1.0)
    return (1 - done) * MUON_MOMENTUM_START + done * MUON_MOMENTUM_END
