"""What Metal kernel files share: their source read from the file beside them, launches, and differentiation.

A kernel file `metal_fused.py` has its Metal source in `metal_fused.metal`:

    // documentation, and functions of this file (a header, put before every kernel)
    //! kernel normalise(x, eps) -> (y)
    ... the body, as `mx.fast.metal_kernel` takes it ...
    //! kernel differentiate(g, x, eps) -> (dx) strided
    ...

`strided` hands arrays over as they lie in memory; otherwise they are made row-major first. `atomic` makes the outputs
atomic. Kernels are made with `mx.fast.metal_kernel` when the file is loaded. Where there is no Metal, calls fail,
unless something took that function's place beforehand (`autoresearch_mlx.probe.metal_on_cpu`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx

_MARK = re.compile(r"//! kernel (\w+)\(([\w, ]+)\) -> \(([\w, ]+)\)((?: (?:strided|atomic))*)\s*")
_SHARED = Path(__file__).with_name("metal_device.h")
SIMD = 32  # threads of a simdgroup
MOST_THREADS = 1024  # of a threadgroup
_PER_THREAD = 4  # elements of a row, before another simdgroup is added

Arrays = tuple[mx.array, ...]


class Launch:
    """One kernel of a source file."""

    def __init__(self, function: Callable[..., list[mx.array]]) -> None:
        self._function = function

    def __call__(
        self,
        *inputs: Any,
        outputs: Sequence[tuple[Sequence[int], mx.Dtype]],
        grid: Sequence[int],
        group: Sequence[int],
        init_value: float | None = None,
        **template: Any,
    ) -> list[mx.array]:
        """Run it over `grid` threads in threadgroups of `group`. inputs: arrays, or numbers for arguments without
        axes; outputs: (shape, dtype) of each; template: dtypes, whole numbers and booleans by name.

        An empty grid launches nothing and gives zeros.
        """
        if 0 in grid:
            return [mx.zeros(shape, dtype) for shape, dtype in outputs]
        return self._function(
            inputs=list(inputs),
            output_shapes=[tuple(shape) for shape, _ in outputs],
            output_dtypes=[dtype for _, dtype in outputs],
            grid=tuple(grid),
            threadgroup=tuple(group),
            template=list(template.items()) or None,
            init_value=init_value,
        )


def kernels(file: str) -> SimpleNamespace:
    """The kernels of the .metal source beside `file`, as `Launch`es by name.

    Raises:
        ValueError: a line that begins with //! is no declaration of a kernel, or there is none.
    """
    path = Path(file).with_suffix(".metal")
    header, sources = parse(path.read_text(encoding="utf-8"))
    if not sources:
        raise ValueError(f"{path}: no kernel is declared")
    stem = f"{path.parent.name}_{path.stem}"
    header = f"using namespace metal;\n{_SHARED.read_text(encoding='utf-8')}\n{header}"
    made = {}
    for name, (inputs, results, options, body) in sources.items():
        made[name] = Launch(
            mx.fast.metal_kernel(  # type: ignore[arg-type]  # its stub says object
                re.sub(r"\W", "_", f"{stem}_{name}"),
                inputs,
                results,
                body,
                header,
                ensure_row_contiguous="strided" not in options,
                atomic_outputs="atomic" in options,
            )
        )
    return SimpleNamespace(**made)


def parse(text: str) -> tuple[str, Mapping[str, tuple[list[str], list[str], list[str], str]]]:
    """(header, {kernel: (inputs, outputs, options, body)}) of a source file. The lines of a body have the numbers that
    they have in the file. Raises ValueError for a malformed declaration."""
    header: list[str] = []
    found: dict[str, tuple[list[str], list[str], list[str], list[str]]] = {}
    current = header
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("//!"):
            declared = _MARK.fullmatch(line)
            if declared is None:
                raise ValueError(f"line {number}: '{line}' declares no kernel")
            name, inputs, results, options = declared.groups()
            current = [""] * number
            found[name] = (re.findall(r"\w+", inputs), re.findall(r"\w+", results), options.split(), current)
        else:
            current.append(line)
    bodies = {name: (*declared[:3], "\n".join(declared[3]) + "\n") for name, declared in found.items()}
    return "\n".join(header) + "\n", bodies


class Differentiable:
    """A function of arrays with a gradient of its own, for kernels that MLX cannot differentiate.

    forward(*arrays, **constants) -> array or tuple of arrays;
    backward(arrays, cotangents, outputs, **constants) -> one gradient per array, None where there is none.
    All three arguments of `backward` are tuples. Constants are plain values, and hashable.
    """

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Sequence[mx.array | None]]) -> None:
        self._forward, self._backward = forward, backward
        self._made: dict[tuple, Callable[..., Any]] = {}

    def __call__(self, *arrays: mx.array, **constants: Any) -> Any:
        key = tuple(sorted(constants.items()))
        if key not in self._made:
            self._made[key] = self._make(constants)
        return self._made[key](*arrays)

    def _make(self, constants: Mapping[str, Any]) -> Callable[..., Any]:
        @mx.custom_function
        def function(*arrays: mx.array) -> Any:
            return self._forward(*arrays, **constants)

        @function.vjp
        def gradients(primals: Any, cotangents: Any, outputs: Any) -> Any:
            arrays = _as_tuple(primals)
            found = self._backward(arrays, _as_tuple(cotangents), _as_tuple(outputs), **constants)
            complete = [mx.zeros_like(a) if g is None else g for a, g in zip(arrays, found, strict=True)]
            return complete if len(complete) > 1 else complete[0]

        return function


def numbers(*values: Any) -> mx.array:
    """Python numbers and () arrays as one float32 array, for a kernel that takes several scalars. Fewer than 8 lie in
    the constant address space."""
    return mx.stack([mx.array(value, dtype=mx.float32) for value in values])


def rows_of(x: mx.array) -> mx.array:
    """(..., C) as (rows, C); one without axes as (1, 1)."""
    width = x.shape[-1] if x.ndim else 1
    return x.reshape(math.prod(x.shape[:-1]), width)


def row_launch(rows: int, width: int) -> dict[str, tuple[int, int, int]]:
    """Grid and group of one threadgroup per row, threadgroup_position_in_grid.y being the row: a simdgroup for every
    128 elements, 32 of them at most. Threads of a group step through the row together."""
    threads = SIMD * min(max(1, -(-width // (SIMD * _PER_THREAD))), MOST_THREADS // SIMD)
    return {"grid": (threads, rows if width else 0, 1), "group": (threads, 1, 1)}


def head_launch(rows: int, width: int) -> dict[str, tuple[int, int, int]]:
    """Grid and group of one simdgroup per short row, such as a head, four to a threadgroup, thread_position_in_grid.y
    being the row. The last threadgroup may have fewer, but whole ones."""
    return {"grid": (SIMD, rows if width else 0, 1), "group": (SIMD, 4, 1)}


def flat_launch(elements: int) -> dict[str, tuple[int, int, int]]:
    """Grid and group of one thread per element, 256 to a threadgroup; the last one may be ragged."""
    return {"grid": (elements, 1, 1), "group": (256, 1, 1)}


def _as_tuple(values: Any) -> Arrays:
    return tuple(values) if isinstance(values, (tuple, list)) else (values,)
