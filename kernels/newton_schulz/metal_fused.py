"""The Polar Express iteration in Metal: of the symmetric products, half the tiles are computed and half mirrored."""

import mlx.core as mx

from autoresearch_mlx import metal_kit

# (a, b, c) of the odd quintic p(x) = a·x + b·x³ + c·x⁵ per iteration; further iterations repeat the last.
COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
THREADS = 128  # four simdgroups, as the source has it
GROUP = (THREADS, 1, 1)
TILE = 32
PER_THREAD = 4  # elements of the normalisation
MOST_PARTS = 64  # threadgroups that share the norm of one matrix
PART = 16 * THREADS  # elements that make another of them worth while

_kernels = metal_kit.kernels(__file__)


def _normalise(g: mx.array) -> mx.array:
    count, rows, columns = g.shape
    size = rows * columns
    parts = min(-(-size // PART), MOST_PARTS)
    (partials,) = _kernels.measure(
        g, outputs=[((count, parts), mx.float32)], grid=(parts * THREADS, count, 1), group=GROUP, THREADS=THREADS
    )
    spans = -(-size // (PER_THREAD * THREADS))
    (x,) = _kernels.normalise(
        g, partials, outputs=[(g.shape, mx.bfloat16)], grid=(spans * THREADS, count, 1), group=GROUP
    )
    return x


def _symmetric(m: mx.array, alpha: float, transposed: bool = False, beta: float | None = None) -> mx.array:
    """alpha·M·Mᵀ for the matrices M of m or their transposes; with beta plus beta·m, m being symmetric then."""
    count, side = m.shape[0], m.shape[2 if transposed else 1]
    tiles = -(-side // TILE)
    (out,) = _kernels.symmetric(
        m,
        m,
        alpha,
        beta or 0.0,
        outputs=[((count, side, side), mx.bfloat16)],
        grid=(tiles * (tiles + 1) // 2 * THREADS, 1, count),
        group=GROUP,
        THREADS=THREADS,
        TRANSPOSED=transposed,
        ADD=beta is not None,
    )
    return out


def _combine(x: mx.array, left: mx.array, right: mx.array, a: float) -> mx.array:
    """a·x + left·right"""
    count, rows, columns = x.shape
    (out,) = _kernels.combine(
        x,
        left,
        right,
        a,
        outputs=[(x.shape, mx.bfloat16)],
        grid=(-(-columns // TILE) * THREADS, -(-rows // TILE), count),
        group=GROUP,
        THREADS=THREADS,
    )
    return out


def newton_schulz(g: mx.array, steps: int) -> mx.array:
    """Approximate the orthogonal polar factor U·Vᵀ of every matrix in g.

    g (N, R, C) float32, float16 or bfloat16; x (N, R, C) bfloat16, as are the matrices between the products, whose sums
    are float32. Each matrix is normalised by its own Frobenius norm (times 1.02, plus 1e-6). No gradient.
    """
    x = _normalise(g)
    tall = g.shape[-2] > g.shape[-1]
    for step in range(steps):
        a, b, c = COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]
        # The smaller Gram matrix of the two, so that its products are the cheap ones.
        gram = _symmetric(x, 1.0, transposed=tall)
        poly = _symmetric(gram, c, beta=b)
        x = _combine(x, x, poly, a) if tall else _combine(x, poly, x, a)
    return x
