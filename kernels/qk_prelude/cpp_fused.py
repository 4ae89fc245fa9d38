"""Rotation and norm in C++: one pass over queries and keys forward, and one backward; nothing is kept in between."""

import torch
from torch import Tensor

from autoresearch_cuda import native
from autoresearch_cuda.native import CODE, INTEGERS, POINTER, REAL, integers

_kernel = native.load(__file__)
_rows = _kernel.function("qk_prelude_rows", *[POINTER] * 8, INTEGERS, INTEGERS, REAL, CODE)


def _run(heads: tuple[Tensor, Tensor], cotangents: tuple[Tensor | None, ...], cos: Tensor, sin: Tensor, eps: float):
    """The results, or with cotangents the gradients, of queries and keys."""
    batch, length, _, width = heads[0].shape
    for x in heads:
        if (
            x.shape[:2] != (batch, length)
            or width % 2
            or cos.shape != (1, length, 1, width // 2)
            or sin.shape != cos.shape
        ):
            raise ValueError(f"heads {tuple(x.shape)} do not fit cos {tuple(cos.shape)} and sin {tuple(sin.shape)}")
    q, k = (x if x.stride(3) == 1 else x.contiguous() for x in heads)
    gq, gk = (None if g is None else g.contiguous() for g in cotangents)
    cos, sin = cos.to(q.dtype).contiguous(), sin.to(q.dtype).contiguous()
    results = tuple(torch.empty(x.shape, dtype=x.dtype) for x in heads)
    code = native.dtype_code(q)
    if q.numel():
        arrays = (q, gq, results[0], k, gk, results[1], cos, sin)
        _rows(
            *[None if x is None else x.data_ptr() for x in arrays],
            integers((batch, length, width // 2, q.shape[2], k.shape[2])),
            integers(q.stride()[:3] + k.stride()[:3]),
            eps,
            code,
        )
    return results


def _compute(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return _run((q, k), (None, None), cos, sin, eps)


def _compute_gradients(
    gq: Tensor, gk: Tensor, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return _run((q, k), (gq, gk), cos, sin, eps)


_gradients = _kernel.operator(
    "gradients(Tensor gq, Tensor gk, Tensor q, Tensor k, Tensor cos, Tensor sin, float eps) -> (Tensor, Tensor)",
    _compute_gradients,
    lambda gq, gk, q, k, cos, sin, eps: (q.new_empty(q.shape), k.new_empty(k.shape)),
)
_prepared = _kernel.operator(
    "prepare(Tensor q, Tensor k, Tensor cos, Tensor sin, float eps) -> (Tensor, Tensor)",
    _compute,
    lambda q, k, cos, sin, eps: (q.new_empty(q.shape), k.new_empty(k.shape)),
    gradient=_gradients,
)


def qk_prelude(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """rms_norm(rope(·), eps) of both.

    q (B,T,H,D), k (B,T,K,D) of one dtype with any strides; cos, sin (1,T,1,D/2) without gradients; results contiguous,
    in the dtype of q and k. Raises ValueError for shapes that do not fit.
    """
    return _prepared(q, k, cos, sin, eps)
