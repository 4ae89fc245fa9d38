"""One Muon step with everything around the polar factor fused by mx.compile; scalars that change from step to step are
passed as arrays, because compiled code takes a Python number for a constant."""

import mlx.core as mx

from autoresearch_mlx.kernel_files import part

newton_schulz = part("newton_schulz")


@mx.compile
def _nesterov(grad: mx.array, momentum: mx.array, mu: mx.array) -> tuple[mx.array, mx.array]:
    momentum = momentum + (1 - mu) * (grad - momentum)
    return momentum, grad + mu * (momentum - grad)


@mx.compile
def _apply(
    p: mx.array, update: mx.array, second_momentum: mx.array, lr: mx.array, decay: mx.array, beta2: float
) -> tuple[mx.array, mx.array]:
    update = update.astype(mx.float32)
    mean_square = update.square().mean(-1 if p.shape[-2] >= p.shape[-1] else -2, keepdims=True)
    second_momentum = second_momentum + (1 - beta2) * (mean_square - second_momentum)
    scale = mx.rsqrt(mx.maximum(second_momentum, 1e-10))
    norm_before = mx.sqrt(mean_square.sum(axis=(-2, -1), keepdims=True))
    norm_after = mx.sqrt((mean_square * scale.square()).sum(axis=(-2, -1), keepdims=True))
    update = update * (scale * (norm_before / mx.maximum(norm_after, 1e-10)))
    return p - lr * (update + decay * p * (update * p >= 0)), second_momentum


def muon_update(
    p: mx.array,
    grad: mx.array,
    momentum: mx.array,
    second_momentum: mx.array,
    mu: float,
    lr: float,
    weight_decay: float,
    beta2: float,
    steps: int,
) -> tuple[mx.array, mx.array, mx.array]:
    """p (N, R, C) and both momenta after the step, in their dtypes; second_momentum (N, R, 1) if R ≥ C, else (N, 1, C).
    The arithmetic around the polar factor is float32."""
    dtypes = p.dtype, momentum.dtype, second_momentum.dtype
    p, grad, momentum, second_momentum = (x.astype(mx.float32) for x in (p, grad, momentum, second_momentum))
    mu, lr, weight_decay = (mx.array(x, dtype=mx.float32) for x in (mu, lr, weight_decay))
    momentum, update = _nesterov(grad, momentum, mu)
    p, second_momentum = _apply(p, newton_schulz(update, steps), second_momentum, lr, weight_decay, beta2)
    return p.astype(dtypes[0]), momentum.astype(dtypes[1]), second_momentum.astype(dtypes[2])
