"""Tensors laid out as a workload's argument specs say, and refilled in place."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from autoresearch_common.workload import ArraySpec

_BLOCKS_PER_SIZE = 2
_empty, _fill = torch.empty, torch.Tensor.fill_
DTYPES = {
    name: getattr(torch, name) for name in ("float64", "float32", "bfloat16", "float16", "int64", "int32", "bool")
}


class Buffer:
    """One array argument at a fixed address: `tensor` is what a kernel gets, `fill` gives it new contents.

    An axis of stride 0 is one that was expanded. A tensor that needs a gradient is a leaf. block: the memory in which
    it lies, by its strides and offset; None for memory of its own. Raises ValueError for strides whose elements overlap
    in any other way.
    """

    def __init__(
        self, spec: ArraySpec, device: torch.device, needs_grad: bool, block: torch.Tensor | None = None
    ) -> None:
        shape, strides = spec["shape"], spec["strides"]
        dtype = DTYPES[spec["dtype"]]
        self._stored = [size if stride else min(size, 1) for size, stride in zip(shape, strides, strict=True)]
        if _overlaps(self._stored, strides):
            raise ValueError(f"argument {spec['name']}: strides {strides} of shape {shape} overlap")
        offset = spec.get("offset", 0)
        storage = torch.zeros(span_of(spec), dtype=dtype, device=device) if block is None else block.detach()
        # Apart from the tensor's version counter: a native optimizer's writes leave it as it is, and where memory was
        # given back and comes again it says nothing either.
        self._place = storage.data.as_strided(self._stored, strides, offset)
        self._storage = storage.data
        self.tensor = storage.as_strided(shape, strides, offset)
        if needs_grad and spec["grad"]:
            self.tensor.requires_grad_()

    def fill(self, content: torch.Tensor, scale: float = 1.0) -> None:
        """Put `content` (the spec's shape and dtype), floating values times `scale`, where the tensor lies; not seen by
        autograd."""
        for axis, size in enumerate(self._stored):
            if size != content.shape[axis]:
                content = content.narrow(axis, 0, size)
        if scale != 1.0 and content.is_floating_point():
            torch.mul(content, scale, out=self._place)
        else:
            self._place.copy_(content)

    @property
    def spread(self) -> bool:
        """Whether there is memory between its elements, or before the first."""
        return self._storage.nelement() > self._place.nelement()

    def around(self) -> torch.Tensor:
        """A copy of all memory behind it, with zeros for its own elements."""
        copied = self._storage.clone()
        copied.as_strided(self._place.shape, self._place.stride(), self._place.storage_offset()).zero_()
        return copied

    @property
    def nbytes(self) -> int:
        return self._place.nelement() * self._place.element_size()


def span_of(spec: ArraySpec) -> int:
    """How many elements the memory behind an array has at least."""
    offset = spec.get("offset", 0)
    last = sum((size - 1) * stride for size, stride in zip(spec["shape"], spec["strides"], strict=True))
    return offset + 1 + last if all(spec["shape"]) else offset


def _overlaps(shape: list[int], strides: list[int]) -> bool:
    """Whether an axis steps by less than what the finer axes span; true for every layout that reuses an element."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size > 1):
        if stride <= reach:
            return True
        reach += (size - 1) * stride
    return False


def dirty_blocks(sizes: Iterable[int], pattern: int, device: torch.device) -> None:
    """Allocate blocks of these sizes (bytes), fill them, and give them back: an allocator that keeps its own lists
    (a GPU's, or malloc's for small blocks) is likely to hand exactly these out next.

    A kernel that leaves part of its output unwritten returns whatever lay there before. So that is never an older right
    answer: the process has run no other kernel of the target, and what malloc hands out holds a pattern, too.
    """
    blocks = [
        _fill(_empty(max(1, size), dtype=torch.uint8, device=device), pattern)
        for size in sizes
        for _ in range(_BLOCKS_PER_SIZE)
    ]
    del blocks


def build(spec: ArraySpec, content: torch.Tensor, needs_grad: bool = False) -> torch.Tensor:
    """A new tensor with the spec's strides and `content` (same shape and dtype) in it, on content's device."""
    buffer = Buffer(spec, content.device, needs_grad)
    buffer.fill(content)
    return buffer.tensor


def relocated(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in memory of its own, with the same strides and offset, and what lies between the elements."""
    storage = cast(Any, tensor.untyped_storage()).clone()
    return _empty(0, dtype=tensor.dtype, device=tensor.device).set_(
        storage, tensor.storage_offset(), tensor.shape, tensor.stride()
    )


def attributes_of(tensor: torch.Tensor) -> list[str]:
    """What Python keeps on a tensor, but for what PyTorch's compiler notes there."""
    return sorted(name for name in vars(tensor) if not name.startswith("_dynamo"))


class Lent:
    """Whether a tensor was changed: its memory written to, or it as `changed` says. Nobody keeps it alive by that,
    unless `hold` is called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.changed = False  # in another way than by writing to its memory
        self._written = False
        self._memory: StorageWeakRef | None = None
        self._before: Any = None
        self._held: Any = None

    def follow(self, tensor: torch.Tensor) -> None:
        storage = cast(Any, tensor.untyped_storage())
        self._memory, self._before = StorageWeakRef(storage), storage.clone()

    def hold(self) -> None:
        """Keep the memory from now on, where anybody else still does."""
        if self._memory is not None:
            self._held = cast(Any, torch.UntypedStorage)._new_with_weak_ptr(self._memory.cdata)

    def look(self) -> bool:
        """Whether it has been written to until now, as far as it is still there."""
        if self._memory is not None and not self._written:
            storage = self._held or cast(Any, torch.UntypedStorage)._new_with_weak_ptr(self._memory.cdata)
            self._written = storage is not None and not torch.equal(_bytes_of(storage), _bytes_of(self._before))
        return self._written or self.changed


def _bytes_of(storage: Any) -> torch.Tensor:
    return _empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def standing(tensor: torch.Tensor) -> dict[str, object]:
    """What there is to know of a leaf besides its contents, in words: where it lies, what autograd holds of it."""
    hooks = cast(Any, tensor)
    return {
        "shape": (tensor.shape, tensor.stride()),
        "place in memory": (tensor.data_ptr(), tensor.storage_offset()),
        "version": 0 if tensor.is_inference() else tensor._version,
        "wish for a gradient": tensor.requires_grad,
        "gradient": None if tensor.grad is None else id(tensor.grad),
        "hooks": (len(hooks._backward_hooks or ()), len(hooks._post_accumulate_grad_hooks or ())),
        # What is left on it lives as long as it does. torch.compile marks what it has seen.
        "attributes": attributes_of(tensor),
    }


def rolled(content: torch.Tensor, shift: int) -> torch.Tensor:
    """A copy whose rows (last axis) lie `shift` places further on, all leading axes counted as one.

    Other contents with the same statistics: second moments stay positive and class numbers stay valid.
    """
    if content.numel() == 0:
        return content
    rows = content.reshape(-1, content.shape[-1]) if content.ndim > 1 else content.reshape(-1)
    return rows.roll(shift, 0).reshape(content.shape)


def shuffled(content: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A copy with its elements in another order: other contents that are as valid."""
    order = torch.randperm(content.numel(), generator=generator).to(content.device)
    return content.reshape(-1)[order].reshape(content.shape)


def probe(tensor: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The elements at `positions` (row-major, modulo the size), then the mean of all elements and the mean of their
    magnitudes: a part that was left out shows in these even if no position hits it. A single number as it is, once: it
    is judged as one. Float32, on the CPU."""
    values = tensor.detach().reshape(-1)
    if values.numel() <= 1:
        return values.float().cpu()
    chosen = values[positions.to(values.device) % values.numel()].double()
    exact = values if values.is_floating_point() else values.double()
    means = [exact.mean(dtype=torch.float64), exact.abs().mean(dtype=torch.float64)]
    return torch.cat([chosen, torch.stack(means)]).float().cpu()
