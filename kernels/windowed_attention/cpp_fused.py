"""Causal sliding-window attention in C++: scores by tiles that stay in the cache, nothing outside the window computed.

Backward works the weights out again from q, k and v. It holds the weights of as many heads at once as there are
threads, 4 T² bytes each in bfloat16; forward holds none.
"""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGERS, POINTER, integers

_kernel = native.load(__file__)
_forward = _kernel.function("windowed_attention_forward", *[POINTER] * 4, INTEGERS, INTEGERS, CODE)
_backward = _kernel.function("windowed_attention_backward", *[POINTER] * 7, INTEGERS, INTEGERS, CODE)


def _call(function, window: int, arrays: list[Tensor], results: list[Tensor]) -> None:
    """`arrays` end with q, k, v."""
    arrays = [x if x.stride(3) == 1 else x.contiguous() for x in arrays]
    q, k = arrays[-3:-1]
    sizes = integers((*q.shape[:3], *k.shape[2:], min(window, q.shape[1])))
    strides = integers([stride for x in arrays for stride in x.stride()[:3]])
    if q.numel():
        function(*[x.data_ptr() for x in arrays + results], sizes, strides, native.dtype_code(q))


def _compute(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    if (
        not q.dtype == k.dtype == v.dtype
        or k.shape != v.shape
        or q.shape[:2] != k.shape[:2]
        or q.shape[3] != k.shape[3]
    ):
        found = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in (q, k, v))
        raise TypeError(f"q, k and v do not fit together: {found}")
    if q.shape[2] % k.shape[2]:
        raise TypeError(f"{q.shape[2]} heads of queries are no multiple of {k.shape[2]} heads of keys")
    native.dtype_code(q)
    y = torch.empty(q.shape, dtype=q.dtype)
    _call(_forward, window, [q, k, v], [y])
    return y


def _compute_gradients(g: Tensor, q: Tensor, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
    _call(_backward, window, [g, q, k, v], [dq, dk, dv])
    return dq, dk, dv


_gradients = _kernel.operator(
    "gradients(Tensor g, Tensor q, Tensor k, Tensor v, int window) -> (Tensor, Tensor, Tensor)",
    _compute_gradients,
    lambda g, q, k, v, window: (q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)),
)
_attend = _kernel.operator(
    "attend(Tensor q, Tensor k, Tensor v, int window) -> Tensor",
    _compute,
    lambda q, k, v, window: q.new_empty(q.shape),
    gradient=_gradients,
)


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B,T,H,D), k and v (B,T,K,D) with H a multiple of K, one dtype, any strides; y (B,T,H,D) contiguous, in q's dtype.
    Sums are float32. Raises TypeError for a misfit.
    """
    return _attend(q, k, v, window)
