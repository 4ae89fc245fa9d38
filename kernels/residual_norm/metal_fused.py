"""The scaled residual stream and its norm in Metal: one pass forward, one backward for all four gradients."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.metal_kit import Arrays, row_launch, rows_of

_kernels = metal_kit.kernels(__file__)


def _forward(
    x: mx.array, x0: mx.array, resid_lambda: mx.array, x0_lambda: mx.array, eps: float
) -> tuple[mx.array, mx.array]:
    if x.shape != x0.shape or x.dtype != x0.dtype:
        raise TypeError(f"x {x.shape} {x.dtype} and x0 {x0.shape} {x0.dtype} differ")
    rows = rows_of(x)
    mixed, normed = _kernels.mix(
        rows, rows_of(x0), resid_lambda, x0_lambda, eps,
        outputs=[(rows.shape, x.dtype)] * 2, **row_launch(*rows.shape), T=x.dtype,
    )  # fmt: skip
    return mixed.reshape(x.shape), normed.reshape(x.shape)


def _backward(primals: Arrays, cotangents: Arrays, outputs: Arrays, eps: float) -> list[mx.array]:
    x, x0, resid_lambda, x0_lambda = primals
    rows = rows_of(x)
    dx, dx0, shares = _kernels.differentiate(
        *map(rows_of, cotangents), rows, rows_of(x0), resid_lambda, x0_lambda, eps,
        outputs=[(rows.shape, x.dtype)] * 2 + [((rows.shape[0], 2), mx.float32)],
        **row_launch(*rows.shape), T=x.dtype,
    )  # fmt: skip
    sums = shares.sum(axis=0)
    factors = [sums[place].astype(factor.dtype) for place, factor in enumerate((resid_lambda, x0_lambda))]
    return [dx.reshape(x.shape), dx0.reshape(x.shape), *factors]


_mix = metal_kit.Differentiable(_forward, _backward)


def residual_norm(
    x: mx.array, x0: mx.array, resid_lambda: mx.array, x0_lambda: mx.array, eps: float
) -> tuple[mx.array, mx.array]:
    """(resid_lambda·x + x0_lambda·x0, rms_norm of that).

    x, x0 (B, T, C), one dtype of float32, bfloat16 and float16; the two factors () float32; results in x's dtype.
    Raises TypeError where x and x0 differ in shape or dtype.
    """
    return _mix(x, x0, resid_lambda, x0_lambda, eps=float(eps))
