"""The form of what a kernel returned: exact type, shape, dtype, strides, storage, and with whom it shares memory."""

from typing import Any

import numpy as np
import torch

from autoresearch_cuda.probe.tensors import attributes_of
from autoresearch_trainer.jobs.calls import Form

_storage = torch.Tensor.untyped_storage
_names = {getattr(torch, name): name for name in (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)}  # fmt: skip


def describe(value: Any, given: dict[str, torch.Tensor], earlier: list[Any]) -> Form:
    """Form of one returned value.

    given: what the kernel was given, by its name in words ("argument x", "cotangent 0"); earlier: what it returned
    before this one. `shares` lists what was given whose storage it uses, and what was returned whose elements lie among
    its own: results may be cut from one block. A subclass is only named: any use of it would run its
    own code.
    """
    kind = type(value)
    form = Form(type=f"{kind.__module__}.{kind.__qualname__}", plain=False)
    if kind is not torch.Tensor:
        return form
    form = form.model_copy(update={
        "layout": str(value.layout).removeprefix("torch."),
        "dtype": _names.get(value.dtype, str(value.dtype)),
        "shape": list(value.shape),
        "device": value.device.type,
        "wrapped": bool(torch._C._functorch.is_functorch_wrapped_tensor(value)),
        "lazy": value.is_conj() or value.is_neg(),
        "requires_grad": value.requires_grad,
        "inference": value.is_inference(),
        "hooked": bool(value.retains_grad or value._backward_hooks or attributes_of(value)),
    })  # fmt: skip
    if value.layout is not torch.strided or value.device.type == "meta" or form.wrapped or form.lazy:
        return form
    address = _storage(value).data_ptr()
    first, end = _span(value)
    returned = {f"output {place}": other for place, other in enumerate(earlier) if type(other) is torch.Tensor}
    return form.model_copy(update={
        "strides": list(value.stride()),
        "offset": value.storage_offset(),
        "storage_bytes": storage_bytes(value),
        "shares": [
            name for name, other in (given | returned).items()
            if address and other.layout is torch.strided and _storage(other).data_ptr() == address
            and (name in given or (first < _span(other)[1] and _span(other)[0] < end))
        ],
        "plain": value.dtype in _names,
    })  # fmt: skip


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """Where its first element begins and its last one ends, in bytes from the beginning of its storage."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    begin = int(tensor.storage_offset()) * tensor.element_size()
    return begin, begin + (last + 1 if tensor.numel() else 0) * tensor.element_size()


def storage_bytes(tensor: torch.Tensor) -> int:
    return _storage(tensor).nbytes()


def storage_content(tensor: torch.Tensor) -> np.ndarray:
    """All bytes of the tensor's storage, those between its elements included, on the CPU."""
    storage = _storage(tensor)
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage).cpu().numpy()


def layout_of(cotangent: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another layout: "contiguous"; "transposed" (stored with the first two axes exchanged); "inner
    transposed" (the second and the third, of two axes as "transposed"); "gaps"
    (around every line of the last axis), "outer gaps" (around the first two axes' lines, as in a part of a longer
    sequence; of two axes as "gaps"), "offset" (three elements into a block), "strided" (every second element); or
    one element seen in many places, whose values must be equal: "expanded" (everywhere, as the sum's backward hands
    on), "expanded first", "expanded last" (along that axis). A single number has one other layout: it is one of several
    in a block, as where losses are weighed together.

    Raises ValueError for another name.
    """
    shape, axes = cotangent.shape, cotangent.ndim
    if layout == "contiguous":
        return cotangent.contiguous()
    if not axes:
        return cotangent.new_zeros(4)[3].copy_(cotangent)
    if layout == "transposed":
        return cotangent.transpose(0, 1).contiguous().transpose(0, 1) if axes > 1 else cotangent.contiguous()
    if layout == "inner transposed":
        one, other = (1, 2) if axes > 2 else (0, min(1, axes - 1))
        return cotangent.transpose(one, other).contiguous().transpose(one, other)
    if layout == "expanded":
        return cotangent.reshape(-1)[:1].reshape([1] * axes).expand(shape)
    if layout in ("expanded first", "expanded last"):
        axis = 0 if layout == "expanded first" else -1
        return cotangent.narrow(axis, 0, min(1, shape[axis])).contiguous().expand(shape)
    if layout == "outer gaps" and axes > 2:
        longer = cotangent.new_zeros([shape[0], shape[1] + 3, *shape[2:]])
        return longer.narrow(1, 1, shape[1]).copy_(cotangent)
    if layout in ("gaps", "outer gaps"):
        return cotangent.new_zeros([*shape[:-1], shape[-1] + 3]).narrow(-1, 2, shape[-1]).copy_(cotangent)
    if layout == "offset":
        return cotangent.new_zeros(3 + cotangent.numel())[3:].view(shape).copy_(cotangent)
    if layout == "strided":
        return cotangent.new_zeros([*shape, 2])[..., 1].copy_(cotangent)
    raise ValueError(f"unknown layout {layout!r}")
