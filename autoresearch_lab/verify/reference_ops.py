"""Operators of PyTorch that do a target's whole work, or the heart of it, by their names in its profiler.

A kernel with native code of its own has no business calling them; one made of framework operators may.
"""

from __future__ import annotations

_ATTENTION = (
    "scaled_dot_product_attention _scaled_dot_product_attention_math _scaled_dot_product_flash_attention "
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_cudnn_attention _fused_sdp_choice _softmax"
)

_NORM = "rms_norm _fused_rms_norm layer_norm native_layer_norm"
_LOSS = "cross_entropy_loss nll_loss nll_loss_forward _log_softmax log_softmax logsumexp"
_RELU = "relu clamp_min threshold_backward"

_NAMES = {
    "rms_norm": _NORM,
    "attention_mask": "tril triu",
    "windowed_attention": _ATTENTION,
    "newton_schulz": "linalg_svd linalg_qr",
    "softcap_cross_entropy": _LOSS,
    "relu_squared": _RELU,
    "value_gate": "sigmoid sigmoid_backward",
    "adamw_update": "_fused_adamw_ _fused_adam_ addcdiv_",
    "qk_prelude": _NORM,
    "residual_norm": _NORM,
    "mlp": _RELU,
    "loss_head": _LOSS,
}

REFERENCE_OPS: dict[str, frozenset[str]] = {
    target: frozenset(f"aten::{name}" for name in names.split()) for target, names in _NAMES.items()
}
