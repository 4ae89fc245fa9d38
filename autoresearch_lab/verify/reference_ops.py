"""Operators of PyTorch that do a target's whole work, or the heart of it, by their names in its profiler.

A kernel whose native code makes a result has no business calling them for it; one made of framework operators may. Of a
target in several steps, such as a rotation and a norm, none is named: an operator does one of them, and native code may
do the others.
"""

from __future__ import annotations

_ATTENTION = (
    "scaled_dot_product_attention _scaled_dot_product_attention_math _scaled_dot_product_flash_attention "
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_cudnn_attention _fused_sdp_choice _softmax"
)

_NAMES = {
    "rms_norm": "rms_norm _fused_rms_norm _fused_rms_norm_backward layer_norm native_layer_norm",
    "attention_mask": "tril triu",
    "windowed_attention": _ATTENTION,
    "newton_schulz": "linalg_svd linalg_qr",
    "softcap_cross_entropy": "cross_entropy_loss nll_loss nll_loss_forward _log_softmax log_softmax logsumexp",
    "relu_squared": "relu clamp_min threshold_backward",
    "adamw_update": "_fused_adamw_ _fused_adam_ addcdiv_",
}

REFERENCE_OPS: dict[str, frozenset[str]] = {
    target: frozenset(f"aten::{name}" for name in names.split()) for target, names in _NAMES.items()
}
