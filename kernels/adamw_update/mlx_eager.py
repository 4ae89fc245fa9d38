"""One AdamW step in MLX operations (Loshchilov and Hutter, 2019)."""

import mlx.core as mx


def adamw_update(
    p: mx.array,
    grad: mx.array,
    exp_avg: mx.array,
    exp_avg_sq: mx.array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> tuple[mx.array, mx.array, mx.array]:
    """p and both moments after the step; arrays of MLX cannot be changed in place.

    All four arrays have one shape and one dtype (that of the parameter), the arithmetic is float32; `step` counts from
    1. Scalars are Python numbers or () arrays.
    p ← p·(1 − lr·wd) − lr/(1 − β1ᵗ) · m / (√(v/(1 − β2ᵗ)) + eps).
    """
    dtype = p.dtype
    p, grad, m, v = (x.astype(mx.float32) for x in (p, grad, exp_avg, exp_avg_sq))
    m = m + (1 - beta1) * (grad - m)
    v = beta2 * v + (1 - beta2) * grad.square()
    update = m / (mx.sqrt(v / (1 - beta2**step)) + eps)
    p = p * (1 - lr * weight_decay) - (lr / (1 - beta1**step)) * update
    return p.astype(dtype), m.astype(dtype), v.astype(dtype)
