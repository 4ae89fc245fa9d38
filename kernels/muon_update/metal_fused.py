"""One Muon step with everything around the polar factor in Metal: one pass before it, two after it."""

import mlx.core as mx

from autoresearch_mlx import metal_kit
from autoresearch_mlx.kernel_files import part
from autoresearch_mlx.metal_kit import SIMD

newton_schulz = part("newton_schulz")

THREADS = 128  # four simdgroups
GROUP = (THREADS, 1, 1)
PER_THREAD = 4  # elements of the passes that go by element, as the source has it
MOST_ELEMENTS = 2**31  # the kernels count elements in 32 bits

_kernels = metal_kit.kernels(__file__)


def _spans(elements: int, per_group: int) -> int:
    """Threads of as many whole threadgroups as the elements need."""
    return -(-elements // per_group) * THREADS


def _blend(grad: mx.array, momentum: mx.array, mu: float) -> list[mx.array]:
    """momentum and the Nesterov gradient"""
    return _kernels.blend(
        grad,
        momentum,
        metal_kit.numbers(mu, 1 - mu),
        grad.size,
        outputs=[(momentum.shape, momentum.dtype), (grad.shape, grad.dtype)],
        grid=(_spans(grad.size, PER_THREAD * THREADS), 1, 1),
        group=GROUP,
        T=momentum.dtype,
    )


def _spread(x: mx.array, second: mx.array, beta2: float, rowwise: bool) -> tuple[mx.array, mx.array]:
    """second_momentum, and the factor (N,) that gives each matrix its norm back."""
    count, rows, columns = x.shape
    lines, width = (rows, columns) if rowwise else (columns, rows)
    second, squares = _kernels.spread(
        x,
        second,
        metal_kit.numbers(beta2, 1 - beta2),
        outputs=[(second.shape, second.dtype), ((count, lines), mx.float32)],
        grid=(_spans(lines, THREADS // SIMD if rowwise else THREADS), count, 1),
        group=GROUP,
        T=second.dtype,
        ROWS=rowwise,
    )
    (ratio,) = _kernels.rescale(
        squares, second, width, outputs=[((count,), mx.float32)], grid=(THREADS, count, 1), group=GROUP
    )
    return second, ratio


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
    """p and both momenta after the step, each in its own dtype; arrays of MLX cannot be changed in place.

    p, grad, momentum (N, R, C), float32, float16 or bfloat16; second_momentum (N, R, 1) if R ≥ C, else (N, 1, C): a
    running mean of the mean square of the update along the last axis, or the one before it. Scalars are Python numbers
    or () arrays. Raises ValueError for 2³¹ elements or more, TypeError for a gradient of another dtype than its
    momentum.
    """
    if p.size >= MOST_ELEMENTS:
        raise ValueError(f"muon_update takes fewer than 2^31 elements, not {p.size}")
    if grad.dtype != momentum.dtype:
        raise TypeError(f"muon_update takes a gradient in its momentum's dtype {momentum.dtype}, not {grad.dtype}")
    count, rows, columns = p.shape
    rowwise = rows >= columns
    momentum, nesterov = _blend(grad, momentum, mu)
    x = newton_schulz(nesterov, steps)
    second_momentum, ratio = _spread(x, second_momentum, beta2, rowwise)
    (p,) = _kernels.apply(
        p,
        x,
        second_momentum,
        ratio,
        metal_kit.numbers(lr, weight_decay),
        outputs=[(p.shape, p.dtype)],
        grid=(_spans(rows * columns, PER_THREAD * THREADS), count, 1),
        group=GROUP,
        T=p.dtype,
        ROWS=rowwise,
    )
    return p, momentum, second_momentum
