"""FlashAttention 4 by itself, of the package flash-attn-4; where it is installed, the baseline uses it as well."""

import torch

from autoresearch_cuda.flash_4 import flash_attn_func


def windowed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window. Hopper, and Blackwell in data centres.

    q (B, T, H, D), k and v (B, T, H_kv, D), bfloat16 or float16; y (B, T, H, D) in q's dtype. Raises
    NotImplementedError for other dtypes, and for heads that are wider than 128 or no multiple of 8.
    """
    return flash_attn_func(q, k, v, causal=True, window_size=(window, 0))
