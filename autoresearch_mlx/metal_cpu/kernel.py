"""The callable that stands in for `mx.fast.metal_kernel`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autoresearch_mlx.metal_cpu.arrays import laid_out
from autoresearch_mlx.metal_cpu.dtypes import as_dtype, as_mlx, as_numpy, is_mlx
from autoresearch_mlx.metal_cpu.errors import KernelFault
from autoresearch_mlx.metal_cpu.findings import Report
from autoresearch_mlx.metal_cpu.run import run
from autoresearch_mlx.metal_cpu.signature import InputKind, Source, TemplateValue, Unit, make_unit

THREADS_LIMIT = 1024  # per threadgroup
_MATH_MODES = ("safe", "relaxed", "fast")


class MetalKernel:
    """A kernel that can be called; see `metal_kernel`. `report` is what the latest call found."""

    def __init__(self, source: Source, ensure_row_contiguous: bool, check: bool, strict: bool) -> None:
        self.source = source
        self.ensure_row_contiguous = ensure_row_contiguous
        self.check = check
        self.strict = strict
        self.report: Report | None = None

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[Any],
        grid: Sequence[int],
        threadgroup: Sequence[int],
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
    ) -> list[Any]:
        """Run the kernel over `grid` threads; the arguments are MLX's. Gives arrays of MLX where one came in.

        Raises ValueError for arguments that MLX refuses, KernelFault (when strict) for findings, and what
        `metal_kernel` says of sources and compilers.
        """
        self._check_call(inputs, output_shapes, output_dtypes, grid, threadgroup)
        arrays = [as_numpy(value) for value in inputs]
        dtypes = [as_dtype(value) for value in output_dtypes]
        unit = self._unit(arrays, dtypes, template)
        if verbose:
            print(f"Generated source code for `{self.source.name}`:\n```\n{unit.metal}\n```")
        grid = [int(n) for n in grid]
        outputs, self.report = run(
            unit,
            [laid_out(array, self.ensure_row_contiguous) for array in arrays],
            [tuple(int(n) for n in shape) for shape in output_shapes],
            dtypes,
            init_value,
            grid,
            [min(int(t), g) for t, g in zip(threadgroup, grid, strict=True)],
            self.check,
        )
        if self.strict and not self.report.ok:
            raise KernelFault(self.source.name, self.report.failures)
        if any(map(is_mlx, [*inputs, *output_dtypes])):
            return [as_mlx(output) for output in outputs]
        return outputs

    def generated(self, inputs: Sequence[Any], output_dtypes: Sequence[Any], template: Any = None) -> Unit:
        """The function made for these inputs, in Metal and in C++, without compiling it."""
        dtypes = [as_dtype(value) for value in output_dtypes]
        return self._unit([as_numpy(value) for value in inputs], dtypes, template)

    def _unit(self, arrays: list[np.ndarray], dtypes: list[np.dtype], template: Any) -> Unit:
        values = tuple(TemplateValue.of(name, value) for name, value in template or ())
        return make_unit(self.source, tuple(InputKind.of(array) for array in arrays), tuple(dtypes), values)

    def _check_call(
        self,
        inputs: Sequence[Any],
        output_shapes: Sequence[Any],
        output_dtypes: Sequence[Any],
        grid: Sequence[int],
        threadgroup: Sequence[int],
    ) -> None:
        expected = {
            "inputs": (inputs, self.source.input_names),
            "output_shapes": (output_shapes, self.source.output_names),
            "output_dtypes": (output_dtypes, self.source.output_names),
        }
        for name, (values, names) in expected.items():
            if len(values) != len(names):
                raise ValueError(f"[metal_kernel] Expected `{name}` to have size {len(names)} but got {len(values)}.")
        for name, axes in (("grid", grid), ("threadgroup", threadgroup)):
            if len(axes) != 3 or any(int(n) < 1 for n in axes):
                raise ValueError(f"[metal_kernel] `{name}` must be three positive numbers, not {tuple(axes)}.")
        threads = int(np.prod([int(n) for n in threadgroup]))
        if threads > THREADS_LIMIT:
            raise ValueError(f"[metal_kernel] Thread group size ({threads}) is greater than {THREADS_LIMIT}.")


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    compile_options: dict[str, str] | None = None,
    *,
    check: bool = False,
    strict: bool = True,
) -> MetalKernel:
    """Make a kernel from the body (`source`) and helpers (`header`) that `mx.fast.metal_kernel` takes.

    `check` chooses the checked build, which sees races, reads and writes outside of arrays, reads of what nobody wrote
    and outputs never written, at 2-20 times the time; without it the fast build runs the grid in both orders of its
    threadgroups. `strict` turns findings that fail the kernel into KernelFault; without it they are in `report` only.
    math_mode is accepted as MLX has it and changes nothing: arithmetic is IEEE.

    Raises ValueError for a bad option; calls raise Unsupported, MetalRejects and CompileFailed for the source,
    CompilerMissing and CompilerUnsuitable for the machine.
    """
    for option, value in (compile_options or {}).items():
        if option != "math_mode":
            raise ValueError(f"[metal_kernel] Unknown compile option `{option}`.")
        if value not in _MATH_MODES:
            raise ValueError(f"[metal_kernel] Expected math_mode to be one of {', '.join(_MATH_MODES)}, not {value!r}.")
    if not output_names:
        raise ValueError("[metal_kernel] Must specify at least one output.")
    made = Source(name, tuple(input_names), tuple(output_names), source, header, atomic_outputs)
    return MetalKernel(made, ensure_row_contiguous, check, strict)
