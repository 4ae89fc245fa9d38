"""The Polar Express iteration, compiled by MLX: library matrix products, the elementwise parts between them fused."""

import mlx.core as mx

COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@mx.compile
def _iterate(g: mx.array, steps: int) -> mx.array:
    g = g.astype(mx.float32)
    x = (g / (mx.sqrt(g.square().sum(axis=(-2, -1), keepdims=True)) * 1.02 + 1e-6)).astype(mx.bfloat16)
    tall = g.shape[-2] > g.shape[-1]
    for step in range(steps):
        a, b, c = COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]
        xt = x.swapaxes(-1, -2)
        gram = xt @ x if tall else x @ xt
        poly = mx.addmm(gram, gram, gram, alpha=c, beta=b)
        x = mx.addmm(x, x, poly, beta=a) if tall else mx.addmm(x, poly, x, beta=a)
    return x


def newton_schulz(g: mx.array, steps: int) -> mx.array:
    """Approximate U·Vᵀ of every matrix; g (N, R, C) any float dtype, x (N, R, C) bfloat16; no gradient.

    Each matrix is normalised by its own Frobenius norm.
    """
    return _iterate(g, steps)
