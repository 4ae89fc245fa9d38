"""Windowed attention as public trainers compute it on GPUs: FlashAttention 2 (Dao 2023, algorithms 1 and 2), in full.

By blocks of keys, with the running maximum and sum of an online softmax. Sums are float32; weights and the scores'
gradients enter the products in q's dtype. Backward has the result as it was rounded: sum(g y) stands for sum(P dP).
"""

from typing import Any

import torch

BLOCK = 64


def windowed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B, T, H, D), k and v (B, T, H_kv, D) with H a multiple of H_kv, one dtype; y (B, T, H, D) in q's dtype.
    """
    group = q.size(2) // k.size(2)
    k, v = (x.repeat_interleave(group, 2) for x in (k, v))
    return _Flash.apply(*(x.transpose(1, 2) for x in (q, k, v)), window).transpose(1, 2)


class _Flash(torch.autograd.Function):
    """q, k, v and y (B, H, T, D)."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
        total = torch.zeros(*q.shape[:3], 1, device=q.device)
        most, sums = torch.full_like(total, float("-inf")), torch.zeros(q.shape, device=q.device)
        for keys, rows in _blocks(q.size(2), window):
            scores = _scores(q, k, keys, rows, window)
            top = torch.maximum(most[:, :, rows], scores.amax(-1, keepdim=True))
            weights, shrink = torch.exp(scores - top), torch.exp(most[:, :, rows] - top)
            total[:, :, rows] = total[:, :, rows] * shrink + weights.sum(-1, keepdim=True)
            sums[:, :, rows] = sums[:, :, rows] * shrink + weights.to(q.dtype).float() @ v[:, :, keys].float()
            most[:, :, rows] = top
        y = (sums / total).to(q.dtype)
        ctx.save_for_backward(q, k, v, y, most + total.log())
        ctx.window = window
        return y

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, y, logs = ctx.saved_tensors
        dq, dk, dv = (torch.zeros(x.shape, device=x.device) for x in (q, k, v))
        drift = (g.float() * y.float()).sum(-1, keepdim=True)
        for keys, rows in _blocks(q.size(2), ctx.window):
            weights = torch.exp(_scores(q, k, keys, rows, ctx.window) - logs[:, :, rows])
            of_weights = g[:, :, rows].float() @ v[:, :, keys].float().mT
            of_scores = (weights * (of_weights - drift[:, :, rows])).to(q.dtype).float()
            dv[:, :, keys] = weights.to(q.dtype).float().mT @ g[:, :, rows].float()
            dk[:, :, keys] = of_scores.mT @ q[:, :, rows].float()
            dq[:, :, rows] += of_scores @ k[:, :, keys].float()
        scale = q.size(-1) ** -0.5
        return (dq * scale).to(q.dtype), (dk * scale).to(q.dtype), dv.to(q.dtype), None


def _blocks(length: int, window: int) -> list[tuple[slice, slice]]:
    """Blocks of keys, each with the queries that see one of them at least."""
    starts = range(0, length, BLOCK)
    return [(slice(at, at + BLOCK), slice(at, min(length, at + BLOCK + window))) for at in starts]


def _scores(q: torch.Tensor, k: torch.Tensor, keys: slice, rows: slice, window: int) -> torch.Tensor:
    """q kᵀ / √D in float32, −∞ where the window hides a key."""
    places = torch.arange(q.size(2), device=q.device)
    distance = places[rows, None] - places[keys]
    scores = q[:, :, rows].float() @ k[:, :, keys].float().mT * q.size(-1) ** -0.5
    return scores.masked_fill((distance < 0) | (distance > window), float("-inf"))
