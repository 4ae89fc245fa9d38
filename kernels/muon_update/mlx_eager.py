"""One Muon step in MLX operations: Nesterov momentum, polar factor, NorMuon, cautious decay."""

import mlx.core as mx

from autoresearch_mlx.kernel_files import part

newton_schulz = part("newton_schulz")


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
    """p and both momenta after the step; arrays of MLX cannot be changed in place.

    p, grad, momentum (N, R, C); second_momentum (N, R, 1) if R ≥ C, else (N, 1, C): a running mean of the mean square
    of the update along the last axis, or the one before it, without bias correction. Any floating dtypes, the
    arithmetic around the polar factor is float32. Scalars are Python numbers or () arrays.
    """
    dtypes = p.dtype, momentum.dtype, second_momentum.dtype
    p, grad, momentum, second_momentum = (x.astype(mx.float32) for x in (p, grad, momentum, second_momentum))
    momentum = momentum + (1 - mu) * (grad - momentum)
    update = newton_schulz(grad + mu * (momentum - grad), steps).astype(mx.float32)

    # NorMuon: even out the rows (or columns), then restore the Frobenius norm.
    axis = -1 if p.shape[-2] >= p.shape[-1] else -2
    mean_square = update.square().mean(axis, keepdims=True)
    second_momentum = second_momentum + (1 - beta2) * (mean_square - second_momentum)
    scale = mx.rsqrt(mx.maximum(second_momentum, 1e-10))
    norm_before = mx.sqrt(mean_square.sum(axis=(-2, -1), keepdims=True))
    norm_after = mx.sqrt((mean_square * scale.square()).sum(axis=(-2, -1), keepdims=True))
    update = update * (scale * (norm_before / mx.maximum(norm_after, 1e-10)))

    # Cautious decay: only where the update and the weight have one sign, so that decay never fights the update.
    decayed = p * (update * p >= 0)
    p = p - lr * (update + weight_decay * decayed)
    return p.astype(dtypes[0]), momentum.astype(dtypes[1]), second_momentum.astype(dtypes[2])
