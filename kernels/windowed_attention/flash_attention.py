"""FlashAttention 2 by itself, of the package flash-attn; where it is installed, the baseline uses it as well."""

import torch
from flash_attn import flash_attn_func


def windowed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B, T, H, D), k and v (B, T, H_kv, D), bfloat16 or float16; y (B, T, H, D) in q's dtype. Its windows are inclusive
    at both ends, as ours.
    """
    return flash_attn_func(q, k, v, causal=True, window_size=(window, 0))
