"""Watches kernels that Triton's interpreter runs: the order of their programs, and the memory that each touches.

The interpreter runs the programs of a launch one after the other, in order, so that a result that depends on the order
looks stable, and two programs that disturb each other on a GPU get along. Here every launch runs its programs in an
order of its own, and these are errors:
    OutOfBounds  an access outside the memory of the launch's arguments, as where a mask is missing;
    DataRace     memory that one program writes and another writes or reads, other than through atomics.
And bfloat16 is what it is on a GPU: float32 is rounded to the nearest, where the interpreter itself cuts the rest off,
and matrix products take its values, where the interpreter takes its bits for integers.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

_KINDS = ("read", "write")


class OutOfBounds(RuntimeError):
    """A program touched memory that belongs to none of its arguments."""


class DataRace(RuntimeError):
    """Two programs of one launch touched the same memory, and at least one of them wrote it."""


def in_use() -> bool:
    """Whether this process runs Triton kernels through the interpreter."""
    return "triton.runtime.interpreter" in sys.modules and sys.modules["triton"].knobs.runtime.interpret


class Watch:
    """Installed once per process, after Triton was imported. `shuffle` = None leaves the programs in order."""

    def __init__(self, shuffle: int | None = 0) -> None:
        self._random = None if shuffle is None else np.random.default_rng(shuffle)
        self.launches = 0
        self._begin("", [])

    def install(self) -> None:
        """From now on every launch is watched, and conversions round."""
        convert_exactly()
        mend_products()
        mend_scalars()
        exchange_once()
        module: Any = sys.modules["triton.runtime.interpreter"]
        builder, watch = module.interpreter_builder, self
        set_dimensions, set_index = builder.set_grid_dim, builder.set_grid_idx
        load, store, atomic = builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw
        execute = module.GridExecutor.__call__

        def dimensions(*size: int) -> None:
            set_dimensions(*size)
            watch._arrange(size)

        def index(*place: int) -> None:
            set_index(*watch._next(place))

        def masked_load(ptrs: Any, mask: Any, *rest: Any) -> Any:
            watch._touch("read", ptrs.data, mask.data)
            return load(ptrs, mask, *rest)

        def masked_store(ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
            watch._touch("write", ptrs.data, mask.data)
            return store(ptrs, value, mask, *rest)

        def atomic_rmw(operation: Any, ptr: Any, value: Any, mask: Any, *rest: Any) -> Any:
            watch._touch("atomic", ptr.data, mask.data)
            return atomic(operation, ptr, value, mask, *rest)

        def launch(executor: Any, *args: Any, **kwargs: Any) -> None:
            watch._begin(executor.fn.__name__, list(_storages([*args, *kwargs.values()])))
            execute(executor, *args, **kwargs)
            watch._judge()

        builder.set_grid_dim, builder.set_grid_idx = dimensions, index
        builder.create_masked_load, builder.create_masked_store = masked_load, masked_store
        builder.create_atomic_rmw = atomic_rmw
        module.GridExecutor.__call__ = launch

    def _begin(self, name: str, storages: list[tuple[int, int]]) -> None:
        self.launches += 1
        self._name = name
        ranges = np.array(sorted(storages), dtype=np.uint64).reshape(-1, 2)
        self._starts, self._ends = ranges[:, 0], ranges[:, 1]
        self._size: tuple[int, ...] = (1, 1, 1)
        self._order = np.zeros(1, dtype=np.int64)
        self._program = self._done = 0
        self._atomics = False
        self._touched: dict[str, list[tuple[int, np.ndarray]]] = {kind: [] for kind in _KINDS}

    def _arrange(self, size: tuple[int, ...]) -> None:
        count = math.prod(size)
        self._size = size
        self._order = np.arange(count) if self._random is None else self._random.permutation(count)
        self._done = 0

    def _next(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """Which program runs where the interpreter would run the one at `place`."""
        self._program = int(self._order[self._done])
        self._done += 1
        return tuple(int(axis) for axis in np.unravel_index(self._program, self._size))

    def _touch(self, kind: str, pointers: np.ndarray, mask: np.ndarray) -> None:
        chosen = np.broadcast_to(mask, pointers.shape).astype(bool)
        addresses = np.unique(np.asarray(pointers[chosen]).astype(np.uint64))
        if not addresses.size:
            return
        place = np.searchsorted(self._starts, addresses, side="right")
        inside = (place > 0) & (addresses < self._ends[np.maximum(place, 1) - 1]) if self._ends.size else place > 0
        if not inside.all():
            raise OutOfBounds(
                f"{self._name}: program {self._words(self._program)} touches {int((~inside).sum())} addresses "
                f"outside the memory of its arguments ({kind})"
            )
        if kind == "atomic":
            self._atomics = True
        else:
            self._touched[kind].append((self._program, addresses))

    def _judge(self) -> None:
        """Raises DataRace where two programs are in each other's way."""
        written, writers = _joined(self._touched["write"])
        if not written.size:
            return
        order = np.argsort(written, kind="stable")
        written, writers = written[order], writers[order]
        clash = np.flatnonzero((written[1:] == written[:-1]) & (writers[1:] != writers[:-1]))
        if clash.size:
            raise DataRace(self._clash("both write", writers[clash[0]], writers[clash[0] + 1]))
        if self._atomics:
            return  # programs that hand results to each other by flags may read what others wrote
        read, readers = _joined(self._touched["read"])
        place = np.minimum(np.searchsorted(written, read), written.size - 1)
        clash = np.flatnonzero((written[place] == read) & (writers[place] != readers))
        if clash.size:
            raise DataRace(self._clash("write and read", writers[place[clash[0]]], readers[clash[0]]))

    def _clash(self, what: str, one: int, other: int) -> str:
        return f"{self._name}: programs {self._words(one)} and {self._words(other)} {what} the same memory"

    def _words(self, program: int) -> str:
        return str(tuple(int(axis) for axis in np.unravel_index(int(program), self._size)))


def convert_exactly() -> None:
    """Replace the interpreter's conversions between float32 and bfloat16: the one down by one that rounds to the
    nearest, ties to even; the one up, which garbles what is below the normal range (1e-38), by one that is exact."""
    module: Any = sys.modules["triton.runtime.interpreter"]
    language, original = module.tl, module._convert_float
    if getattr(original, "exact", False):
        return

    def convert(values: np.ndarray, source: Any, target: Any, mode: Any) -> np.ndarray:
        usual = mode is None or "RTNE" in str(mode)
        if usual and source == language.float32 and target == language.bfloat16:
            with np.errstate(all="ignore"):
                return np.asarray(values).astype(ml_dtypes.bfloat16).view(np.uint16)
        if source == language.bfloat16 and target == language.float32:
            return (np.asarray(values).astype(np.uint32) << 16).astype(np.uint32)  # its bits are float32's upper half
        return original(values, source, target, mode)

    marked: Any = convert
    marked.exact = True
    module._convert_float = convert


def mend_products() -> None:
    """Let the interpreter's matrix products take bfloat16 for the numbers they are, widened to float32, and add those
    of float32 and float16 up in the order of the inner dimension, as a GPU does.

    The BLAS behind the interpreter adds in an order that depends on the tiles' shapes and on which operand is
    transposed, so two kernels would get different bits for one product, and a difference of the two would be noise.
    """
    module: Any = sys.modules["triton.runtime.interpreter"]
    language, builder = module.tl, module.interpreter_builder
    original = builder.create_dot
    if getattr(original, "mended", False):
        return

    def product(left: Any, right: Any, start: Any, *rest: Any) -> Any:
        kinds = {left.dtype.scalar, right.dtype.scalar}
        if language.bfloat16 in kinds:
            return original(_widened(left), _widened(right), start, *rest)
        if not kinds <= {language.float32, language.float16} or start.data.dtype != np.float32:
            return original(left, right, start, *rest)
        return module.TensorHandle(_in_order(left.data, right.data, start.data), start.dtype.scalar)

    def _widened(operand: Any) -> Any:
        is_bfloat16 = operand.dtype.scalar == language.bfloat16
        return builder.cast_impl(operand, language.float32) if is_bfloat16 else operand

    marked: Any = product
    marked.mended = True
    builder.create_dot = product


def mend_scalars() -> None:
    """Let a tensor of one number be the bound of a loop: Triton 3.6 asks NumPy for `int(array)`, and NumPy 2.4 grants
    that to arrays without axes only."""
    module: Any = sys.modules["triton.runtime.interpreter"]
    original = module._patch_lang_tensor
    if getattr(original, "mended", False):
        return

    def patch(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    marked: Any = patch
    marked.mended = True
    module._patch_lang_tensor = patch


def exchange_once() -> None:
    """Let the interpreter look for Triton's functions, to exchange them, once per launch: it does so whenever one
    function of a kernel calls another, which takes a quarter of the time where there are several."""
    module: Any = sys.modules["triton.runtime.interpreter"]
    original, is_builtin = module._patch_builtin, module.tl.core.is_builtin
    if getattr(original, "mended", False):
        return
    known: dict[int, str] = {}  # one that is exchanged, by the namespace that it is in

    def patch(namespace: Any, *rest: Any) -> None:
        if id(namespace) not in known:
            known.update({id(namespace): name for name, member in vars(namespace).items() if is_builtin(member)})
        name = known.get(id(namespace))
        if name is None or is_builtin(getattr(namespace, name)):
            original(namespace, *rest)  # else it was exchanged and not given back, and so were the others

    marked: Any = patch
    marked.mended = True
    module._patch_builtin = patch


def _in_order(left: np.ndarray, right: np.ndarray, start: np.ndarray) -> np.ndarray:
    """start + left right, each sum in float32 and from its first term to its last."""
    left, right = left.astype(np.float32), right.astype(np.float32)
    total = np.array(np.broadcast_to(start, (*left.shape[:-1], right.shape[-1])))
    for place in range(left.shape[-1]):
        total += left[..., :, place, None] * right[..., place, None, :]
    return total


def _joined(touched: list[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """(addresses, the program of each)."""
    if not touched:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    programs = [np.full(len(addresses), program, np.int64) for program, addresses in touched]
    return np.concatenate([addresses for _, addresses in touched]), np.concatenate(programs)


def _storages(values: list[Any]) -> Iterator[tuple[int, int]]:
    """(first address, address behind the last byte) of every tensor among the arguments of a launch."""
    for value in values:
        value = getattr(value, "base", value) if not hasattr(value, "data_ptr") else value
        if isinstance(value, tuple):
            yield from _storages(list(value))
        elif hasattr(value, "untyped_storage"):
            storage = value.untyped_storage()
            yield storage.data_ptr(), storage.data_ptr() + storage.nbytes()
