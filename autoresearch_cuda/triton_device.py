"""Pieces that Triton kernels of several targets are made of: functions of the GPU, called inside `triton.jit` ones."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
# Up to here exp(−2·cap), a row's sum of it and the reciprocal are normal numbers of float32: no row needs its maximum.
LARGEST_CAP = 40.0


@triton.jit
def reciprocal_rms(squares, width, eps):
    """1 / sqrt(squares / width + eps). Correctly rounded where that costs nothing: once per row."""
    return 1.0 / tl.sqrt_rn(squares / width + eps)


@triton.jit
def rotate(first, second, cos, sin):
    """The pairs (first, second) turned by minus the angle. With -sin: turned back."""
    return first * cos + second * sin, second * cos - first * sin


@triton.jit
def head_offset(row, length, heads, batch_stride, position_stride, head_stride):
    """Offset of row = (batch, position, head), counted together, in a (B, T, H, D) array with strides."""
    head = row % heads
    position = row // heads % length
    batch = row // heads // length
    return batch.to(tl.int64) * batch_stride + position * position_stride + head * head_stride


@triton.jit
def softcap(values, cap):
    """(r, a quarter of 1 − tanh²) where cap·tanh(x / cap) = cap − 2·cap·r: of t = exp(2x / cap), r = 1 / (1 + t).

    Neither cancels. Beyond 2^64 t is held, where both are as good as 0; NaN stays NaN."""
    t = tl.exp2(tl.minimum(values * (2.0 * LOG2_E / cap), 64.0, propagate_nan=tl.PropagateNan.ALL))
    r = 1.0 / (1.0 + t)
    return r, t * r * r


@triton.jit
def softcapped_rows(values, exists, cap, BY_MAXIMUM: tl.constexpr, WHOLE: tl.constexpr):
    """Of rows of logits (those that exist; all with WHOLE): exp(z − top), their sums, a quarter of the slopes, least r.

    z − top is −2·cap·(r − least): the top is the cap, least 0, or with BY_MAXIMUM the row's own. The difference comes
    first, so that a class alone in its row has exactly 1."""
    r, slope = softcap(values, cap)
    least = tl.zeros((values.shape[0],), tl.float32)
    if BY_MAXIMUM:
        least = tl.min(r if WHOLE else tl.where(exists, r, 1.0), axis=1)
        r -= least[:, None]
    exponential = tl.exp2(r * (-2.0 * LOG2_E * cap))
    total = tl.sum(exponential if WHOLE else tl.where(exists, exponential, 0.0), axis=1)
    return exponential, total, slope, least
