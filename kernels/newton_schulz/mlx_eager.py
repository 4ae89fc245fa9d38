"""The Polar Express iteration (Newton-Schulz with per-step optimal coefficients) in MLX operations."""

import mlx.core as mx

# (a, b, c) of the odd quintic p(x) = a·x + b·x³ + c·x⁵ per iteration; further iterations repeat the last.
COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def newton_schulz(g: mx.array, steps: int) -> mx.array:
    """Approximate the orthogonal polar factor U·Vᵀ of every matrix in g.

    g (N, R, C), any float dtype; x (N, R, C) bfloat16. Each matrix is normalised by its own Frobenius norm (times 1.02,
    plus 1e-6, so that every singular value starts at most at 1). No gradient.
    """
    gf = g.astype(mx.float32)
    norm = mx.sqrt(gf.square().sum(axis=(-2, -1), keepdims=True))
    x = (gf / (norm * 1.02 + 1e-6)).astype(mx.bfloat16)
    tall = g.shape[-2] > g.shape[-1]
    for step in range(steps):
        a, b, c = COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)]
        # The smaller Gram matrix of the two, so that its products are the cheap ones.
        xt = x.swapaxes(-1, -2)
        gram = xt @ x if tall else x @ xt
        # addmm keeps the sum in the product's accumulator, so that it is rounded once.
        poly = mx.addmm(gram, gram, gram, alpha=c, beta=b)
        x = mx.addmm(x, x, poly, beta=a) if tall else mx.addmm(x, poly, x, beta=a)
    return x
