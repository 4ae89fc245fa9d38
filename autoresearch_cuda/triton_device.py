"""Pieces that Triton kernels of several targets are made of: functions of the GPU, called inside `triton.jit` ones."""

import triton
import triton.language as tl


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
    """(cap·tanh(x / cap), 1 − tanh²) from t = exp(−2|x| / cap) ≤ 1: nothing overflows, the slope does not cancel."""
    t = tl.exp(tl.abs(values) * (-2.0 / cap))
    reciprocal = 1.0 / (1.0 + t)
    capped = cap * (1.0 - t) * reciprocal
    return tl.where(values < 0, -capped, capped), 4.0 * t * reciprocal * reciprocal
