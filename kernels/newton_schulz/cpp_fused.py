"""The Polar Express iteration in C++: bfloat16 dot products in the cache, of the symmetric products half the blocks."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER, REALS, reals

# (a, b, c) of the odd quintic p(x) = a·x + b·x³ + c·x⁵ per iteration; further iterations repeat the last.
COEFFICIENTS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)

_kernel = native.load(__file__)
_iterate = _kernel.function("newton_schulz", POINTER, POINTER, INTEGER, INTEGER, INTEGER, REALS, INTEGER, CODE)


def _compute(g: Tensor, steps: int) -> Tensor:
    g = g.contiguous()
    x = g.new_empty(g.shape, dtype=torch.bfloat16)
    triples = [COEFFICIENTS[min(step, len(COEFFICIENTS) - 1)] for step in range(steps)]
    rates = reals([rate for triple in triples for rate in triple])
    _iterate(g.data_ptr(), x.data_ptr(), *g.shape, rates, steps, native.dtype_code(g))
    return x


_operator = _kernel.operator(
    "newton_schulz(Tensor g, int steps) -> Tensor",
    _compute,
    lambda g, steps: g.new_empty(g.shape, dtype=torch.bfloat16),
)


@torch.no_grad()
def newton_schulz(g: Tensor, steps: int) -> Tensor:
    """Approximate the orthogonal polar factor U·Vᵀ of every matrix in g, normalised by its own Frobenius norm.

    g (N, R, C), float32, bfloat16 or float16; x (N, R, C) bfloat16. No gradient.
    """
    return _operator(g, steps)
