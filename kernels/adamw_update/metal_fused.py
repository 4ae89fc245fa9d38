"""One AdamW step in Metal (Loshchilov and Hutter, 2019): one pass over the four arrays, float32 inside."""

import mlx.core as mx

from autoresearch_mlx import metal_kit

THREADS = 256
PER_THREAD = 4  # elements; as the source has it
MOST_ELEMENTS = 2**31  # the kernel counts elements in 32 bits

_kernels = metal_kit.kernels(__file__)


def _factors(step: int, lr: float, beta1: float, beta2: float, weight_decay: float) -> mx.array:
    """What the kernel takes of the scalars (6,) float32; plain numbers are combined in double precision."""
    return metal_kit.numbers(
        1 - beta1,
        beta2,
        1 - beta2,
        1 - lr * weight_decay,
        lr / (1 - beta1**step),
        1 / (1 - beta2**step),
    )


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
    """p and both moments after the step, each in its own dtype; arrays of MLX cannot be changed in place.

    p, grad, exp_avg, exp_avg_sq of one shape, each float32, float16 or bfloat16; `step` counts from 1. Scalars are
    Python numbers or () arrays. p ← p·(1 − lr·wd) − lr/(1 − β1ᵗ) · m / (√(v/(1 − β2ᵗ)) + eps).
    Raises ValueError for 2³¹ elements or more.
    """
    if p.size >= MOST_ELEMENTS:
        raise ValueError(f"adamw_update takes fewer than 2^31 elements, not {p.size}")
    if p.ndim == 0:  # of these MLX hands the number to a kernel, and not the array
        rows = (each.reshape(1) for each in (p, grad, exp_avg, exp_avg_sq))
        p, m, v = adamw_update(*rows, step, lr, beta1, beta2, eps, weight_decay)
        return p.reshape(()), m.reshape(()), v.reshape(())
    states = (p, exp_avg, exp_avg_sq)
    groups = -(-p.size // (PER_THREAD * THREADS))
    return tuple(
        _kernels.step(
            p,
            grad,
            exp_avg,
            exp_avg_sq,
            _factors(step, lr, beta1, beta2, weight_decay),
            mx.array(eps, dtype=mx.float32),
            p.size,
            outputs=[(state.shape, state.dtype) for state in states],
            grid=(groups * THREADS, 1, 1),
            group=(THREADS, 1, 1),
            T=p.dtype,
            M=exp_avg.dtype,
            V=exp_avg_sq.dtype,
        )
    )
