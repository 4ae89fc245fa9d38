"""Operators of PyTorch that do a target's whole work, or the heart of it, by their names in its profiler.

A kernel with native code of its own has no business calling them; one made of framework operators may.
"""

from __future__ import annotations

_ATTENTION = (
    "scaled_dot_product_attention _scaled_dot_product_attention_math _scaled_dot_product_flash_attention "
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_cudnn_attention _fused_sdp_choice _softmax"
)

_NAMES = {
    "rms_norm": "rms_norm _fused_rms_norm layer_norm native_layer_norm",
    "attention_mask": "tril triu",
    "windowed_attention": _ATTENTION,
    "newton_schulz": "linalg_svd linalg_qr",
    "softcap_cross_entropy": "cross_entropy_loss nll_loss nll_loss_forward _log_softmax log_softmax logsumexp",
    "relu_squared": "relu clamp_min threshold_backward",
    "value_gate": "sigmoid sigmoid_backward",
    "adamw_update": "_fused_adamw_ _fused_adam_ addcdiv_",
}

REFERENCE_OPS: dict[str, frozenset[str]] = {
    target: frozenset(f"aten::{name}" for name in names.split()) for target, names in _NAMES.items()
}
