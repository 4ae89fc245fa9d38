"""One AdamW step fused by mx.compile; scalars are passed as arrays, because compiled code takes a Python number for a
constant, and they change from step to step."""

import mlx.core as mx


@mx.compile
def _fused(
    p: mx.array, grad: mx.array, m: mx.array, v: mx.array, keep: mx.array, rate: mx.array, inverse: mx.array,
    rest1: mx.array, beta2: mx.array, rest2: mx.array, eps: mx.array,
) -> tuple[mx.array, mx.array, mx.array]:  # fmt: skip
    dtype = p.dtype
    p, grad, m, v = (x.astype(mx.float32) for x in (p, grad, m, v))
    m = m + rest1 * (grad - m)
    v = beta2 * v + rest2 * grad.square()
    p = p * keep - rate * (m / (mx.sqrt(v * inverse) + eps))
    return p.astype(dtype), m.astype(dtype), v.astype(dtype)


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
    """p and both moments after the step; one shape and one dtype, `step` counts from 1."""
    # In double: 1 - beta2**step loses four digits in float32 where it is 0.001.
    corrected = (1 - lr * weight_decay, lr / (1 - beta1**step), 1 / (1 - beta2**step), 1 - beta1, beta2, 1 - beta2, eps)
    return _fused(p, grad, exp_avg, exp_avg_sq, *(mx.array(x, dtype=mx.float32) for x in corrected))
