"""The Polar Express iteration in C++: bfloat16 dot products in the cache, of the symmetric products half the blocks."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGER, POINTER

_kernel = native.load(__file__)
_iterate = _kernel.function("newton_schulz", POINTER, POINTER, INTEGER, INTEGER, INTEGER, INTEGER, CODE)


def _compute(g: Tensor, steps: int) -> Tensor:
    g = g.contiguous()
    x = g.new_empty(g.shape, dtype=torch.bfloat16)
    _iterate(g.data_ptr(), x.data_ptr(), *g.shape, steps, native.dtype_code(g))
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
