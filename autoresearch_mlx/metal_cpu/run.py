"""One call of a kernel: its buffers, its launches in the chosen build, and the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoresearch_mlx.metal_cpu import build
from autoresearch_mlx.metal_cpu.arrays import Layout
from autoresearch_mlx.metal_cpu.dtypes import poison_bits
from autoresearch_mlx.metal_cpu.explain import explain
from autoresearch_mlx.metal_cpu.findings import Finding, Place, Report
from autoresearch_mlx.metal_cpu.launch import Argument, Outcome, launch
from autoresearch_mlx.metal_cpu.signature import Unit

THREADGROUP_LIMIT = 32 * 1024  # bytes of threadgroup memory
_NOWHERE = Place("source", 0)


def run(
    unit: Unit,
    layouts: Sequence[Layout],
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[np.dtype],
    init_value: float | None,
    grid: Sequence[int],
    group: Sequence[int],
    check: bool,
) -> tuple[list[np.ndarray], Report]:
    """Run `unit`; outputs get `shapes` and `dtypes`, filled with `init_value` beforehand unless that is None.

    The fast build runs twice, with the threadgroups in both orders and two kinds of poison in the outputs: what
    differs only by the poison was never written, what differs otherwise depends on the order.
    """
    path = build.shared_object(unit.code, check)
    initialised = init_value is not None

    def once(reverse: bool, poison_kind: int) -> tuple[list[np.ndarray], Outcome]:
        outputs = [np.empty(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        for output in outputs:
            if initialised:
                output[...] = init_value
        arguments = _arguments(unit, layouts, outputs, initialised)
        outcome = launch(path, arguments, grid, group, fibers=unit.collective, reverse=reverse, poison_kind=poison_kind)
        return outputs, outcome

    outputs, outcome = once(False, 0)
    findings = explain(path, outcome.findings)
    if not check and not outcome.aborted:
        again, second = once(True, 1)
        known = {(finding.kind, finding.place) for finding in findings}
        findings += [f for f in explain(path, second.findings) if (f.kind, f.place) not in known]
        for name, one, other in zip(unit.outputs, outputs, again, strict=True):
            findings += _compare(name, one, other, initialised, outcome.float_atomics)
    if outcome.threadgroup_bytes > THREADGROUP_LIMIT:
        used = f"{outcome.threadgroup_bytes} bytes of threadgroup memory; there are {THREADGROUP_LIMIT}"
        findings.append(Finding("threadgroup-memory", used, _NOWHERE))
    return outputs, Report("checked" if check else "fast", tuple(findings), outcome.threadgroup_bytes)


def _arguments(
    unit: Unit, layouts: Sequence[Layout], outputs: Sequence[np.ndarray], initialised: bool
) -> list[Argument]:
    arguments = []
    for parameter in unit.parameters:
        role, i = parameter.source
        if role == "output":
            arguments.append(Argument(parameter.name, outputs[i], writable=True, initialised=initialised))
        elif role == "input":
            layout = layouts[i]
            arguments.append(Argument(parameter.name, layout.data, layout.first, layout.gaps))
        else:
            shape, strides = layouts[i].shape, layouts[i].strides
            values: dict[str, np.ndarray] = {
                "shape": np.array(shape, np.int32),
                "strides": np.array(strides, np.int64),
                "ndim": np.array([len(shape)], np.int32),
            }
            arguments.append(Argument(parameter.name, values[role]))
    return arguments


def _compare(name: str, one: np.ndarray, other: np.ndarray, initialised: bool, float_atomics: bool) -> list[Finding]:
    """Elements that nobody wrote, and elements whose value depends on the order of the threadgroups."""
    bits = f"u{one.dtype.itemsize}"
    first, second = one.reshape(-1).view(bits), other.reshape(-1).view(bits)
    poisons = [poison_bits(one.dtype, kind) for kind in (0, 1)]
    unwritten = np.zeros(first.size, bool) if initialised else (first == poisons[0]) & (second == poisons[1])
    differs = (first != second) & ~unwritten
    found = []
    if unwritten.any():
        at = int(unwritten.argmax())
        text = f"{int(unwritten.sum())} of {first.size} elements of {name} never written, first {name}[{at}]"
        found.append(Finding("never-written", text, _NOWHERE, times=int(unwritten.sum())))
    # Sums by atomic additions are rounded in the order of the additions; their last digits may differ.
    if differs.any() and not float_atomics:
        at = int(differs.argmax())
        values = f"{one.reshape(-1)[at]} and {other.reshape(-1)[at]}"
        text = f"{int(differs.sum())} of {first.size} elements of {name} depend on the order of the threadgroups"
        found.append(Finding("order-dependent", f"{text}, first {name}[{at}]: {values}", _NOWHERE))
    return found
