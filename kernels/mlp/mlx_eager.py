"""The MLP in MLX operations, around the smaller target's kernel."""

import mlx.core as mx

from autoresearch_mlx.kernel_files import part

relu_squared = part("relu_squared")


def mlp(x: mx.array, w_fc: mx.array, w_proj: mx.array) -> mx.array:
    """y = relu_squared(x w_fcᵀ) w_projᵀ, computed in x's dtype.

    x (..., C); w_fc (H, C) and w_proj (C, H) of any float dtype, float32 in the trainer; y (..., C) in x's dtype. The
    gradients of the weights have the weights' dtype.
    """
    return relu_squared(x @ w_fc.astype(x.dtype).T) @ w_proj.astype(x.dtype).T
