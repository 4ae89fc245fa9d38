"""Causal sliding-window attention by PyTorch's scaled_dot_product_attention: its own choice of a fused operator, with a
mask where the window is shorter than the sequence."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from autoresearch_cuda.kernel_files import part, runs_when_traced

attention_mask = part("attention_mask")

VECTOR = 16

_masks = SimpleNamespace()


@runs_when_traced
def _build(seq_len: int, window: int, device: torch.device) -> str:
    """Build the boolean (T, T) mask unless it is there; returns its name in `_masks`. Compiled code runs this once."""
    name = f"{seq_len}_{window}_{device}".replace(".", "_")
    if not hasattr(_masks, name):
        with torch.inference_mode(False), torch.no_grad():
            setattr(_masks, name, attention_mask(seq_len, window, torch.empty(0, device=device)))
    return name


def windowed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    """softmax(q kᵀ / √D) v over the keys j with 0 ≤ i − j ≤ window.

    q (B, T, H, D), k and v (B, T, H_kv, D), one dtype; y (B, T, H, D) in q's dtype.
    """
    seq_len, grouped = q.size(1), q.size(2) != k.size(2)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    # On the CPU, among fewer keys than a vector holds, the causal form takes a score that is NaN as no score at all.
    if window >= seq_len - 1 and (seq_len >= VECTOR or q.device.type != "cpu"):
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    else:
        mask = getattr(_masks, _build(seq_len, window, q.device))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)
    return y.transpose(1, 2)
