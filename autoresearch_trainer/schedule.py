"""Learning rate, weight decay and momentum as functions of progress (0 at the start of the run, 1 at its end)."""

MUON_MOMENTUM_START, MUON_MOMENTUM_END, MUON_MOMENTUM_STEPS = 0.85, 0.95, 300


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
