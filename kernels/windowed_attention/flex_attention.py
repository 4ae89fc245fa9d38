"""FlexAttention by itself, compiled by Inductor: the window is a block mask, and blocks outside it are skipped."""

from functools import lru_cache

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

_flex = torch.compile(flex_attention, dynamic=False, fullgraph=True)


@lru_cache
def _block_mask(seq_len: int, window: int, device: str) -> BlockMask:
    def visible(batch: torch.Tensor, head: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return (i >= j) & (i - j <= window)

    return create_block_mask(visible, None, None, seq_len, seq_len, device=device)


def windowed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B, T, H, D), k and v (B, T, H_kv, D), one dtype; y (B, T, H, D) in q's dtype. Needs a GPU that Triton supports.
    """
    grouped = q.size(2) != k.size(2)
    blocks = _block_mask(q.size(1), window, str(q.device))
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return _flex(q, k, v, block_mask=blocks, enable_gqa=grouped).transpose(1, 2)
