"""FlashAttention 4, of the package flash-attn-4, as an operator of PyTorch.

The package offers a function of autograd. Within it CuTe DSL compiles kernels and launches them, which torch.compile
can neither trace nor step over. Here its forward and its backward are an operator each, so that a compiled model stays
one graph. PyTorch's own registration of the package (torch.nn.attention.activate_flash_attention_impl, as of 2.13) will
not do: no public function takes a window for sequences of one length, and it unpacks two results where version 4.0.0b36
of the package returns five.
"""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from autoresearch_cuda.operators import Operators, keep_for_backward

WHEEL, INTERFACE = "flash-attn-4", "flash_attn.cute.interface"
# Major compute capabilities for which the package has a backward of its own: Hopper, and Blackwell in data centres.
CAPABILITIES = (9, 10)
MOST_WIDTH = 128
# What is called here, none of it public, with the names of the arguments that it must have.
_CALLED = {
    "_flash_attn_fwd": {"causal", "window_size_left", "return_lse"},
    "_flash_attn_bwd": {"causal", "window_size_left", "deterministic"},
}


def check(package: ModuleType) -> None:
    """Raises ImportError for a version of the package that cannot be called in this way."""
    for name, arguments in _CALLED.items():
        function = getattr(package, name, None)
        if function is None or not arguments <= set(inspect.signature(function).parameters):
            raise ImportError(f"{name} with {', '.join(sorted(arguments))} is not in this version")


def _package() -> ModuleType:
    return importlib.import_module(INTERFACE)


def _compute(q: Tensor, k: Tensor, v: Tensor, left: int | None) -> tuple[Tensor, Tensor]:
    """y (B, T, H, D), and the logarithms (B, H, T) of the rows' sums, in float32, that backward needs."""
    y, sums, *_ = _package()._flash_attn_fwd(q, k, v, causal=True, window_size_left=left, return_lse=True)
    return y, sums


def _compute_gradients(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, sums: Tensor, left: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    repeatable = torch.are_deterministic_algorithms_enabled()
    found = _package()._flash_attn_bwd(
        q, k, v, y, g, sums, causal=True, window_size_left=left, deterministic=repeatable
    )
    dq, dk, dv = (x.contiguous() for x in found)
    return dq, dk, dv


def _fake(q: Tensor, k: Tensor, v: Tensor, left: int | None) -> tuple[Tensor, Tensor]:
    batch, length, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, heads, length), dtype=torch.float32)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, ctx.left = inputs
    keep_for_backward(ctx, output[1])
    ctx.save_for_backward(q, k, v, *output)


def _differentiate(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *_gradients(g, *ctx.saved_tensors, ctx.left), None


_operators = Operators("flash_attention_4", ("CUDA", "CPU"))  # on the CPU: stand-ins for the package
_gradients = _operators.define(
    "gradients(Tensor g, Tensor q, Tensor k, Tensor v, Tensor y, Tensor sums, int? left) -> (Tensor, Tensor, Tensor)",
    _compute_gradients,
    lambda g, q, k, v, y, sums, left: tuple(x.new_empty(x.shape) for x in (q, k, v)),
)
_attention = _operators.define(
    "attention(Tensor q, Tensor k, Tensor v, int? left) -> (Tensor, Tensor)",
    _compute,
    _fake,
    save=_save,
    backward=_differentiate,
)


def flash_attn_func(q: Tensor, k: Tensor, v: Tensor, causal: bool, window_size: tuple[int, int]) -> Tensor:
    """As the package's own function of that name, for causal windows: `window_size` is (earlier keys that a query sees
    besides itself, 0). One that hides nothing is left out: for plain causal attention there are kernels of their own.

    Raises NotImplementedError for what the package has no kernel for.
    """
    if not causal or window_size[1] != 0:
        raise NotImplementedError("FlashAttention 4: only causal windows are passed on")
    if q.dtype not in (torch.bfloat16, torch.float16):
        raise NotImplementedError(f"FlashAttention 4 takes bfloat16 and float16, not {q.dtype}".replace("torch.", ""))
    if q.size(-1) > MOST_WIDTH or q.size(-1) % 8:
        raise NotImplementedError(f"FlashAttention 4: heads of 8, 16, … {MOST_WIDTH} channels, not {q.size(-1)}")
    left = window_size[0]
    return _attention(q, k, v, left if left < k.size(1) - 1 else None)[0]
