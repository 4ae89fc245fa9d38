"""The function that MLX generates around a kernel's body, and the C++ translation unit made of it.

MLX searches the body as plain text: `inp_shape`, `inp_strides`, `inp_ndim` and the names of thread attributes become
parameters wherever they occur, in a comment or inside a longer word too. Inputs with fewer than eight elements lie in
the constant address space, and arrays without axes are passed by reference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from autoresearch_mlx.metal_cpu import lint
from autoresearch_mlx.metal_cpu.dtypes import METAL_NAMES, as_dtype, is_dtype
from autoresearch_mlx.metal_cpu.rewrite import Rewriter

CONSTANT_BELOW = 8  # elements
HEADER_LINES = 1_000_000  # added to the line numbers of the header, so that they tell themselves from the body's
# Attribute, its Metal type, and where the run time keeps it.
ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": ("uint", "(NOMINAL + 3) / 4"),
    "dispatch_simdgroups_per_threadgroup": ("uint", "t->nominal_simdgroups"),
    "dispatch_threads_per_threadgroup": ("uint3", "t->nominal_group_size"),
    "grid_origin": ("uint3", ""),
    "grid_size": ("uint3", "t->grid"),
    "quadgroup_index_in_threadgroup": ("uint", "t->index_in_threadgroup / 4"),
    "quadgroups_per_threadgroup": ("uint", "(ACTUAL + 3) / 4"),
    "simdgroup_index_in_threadgroup": ("uint", "t->simdgroup"),
    "simdgroups_per_threadgroup": ("uint", "t->simdgroups"),
    "thread_execution_width": ("uint", "32"),
    "thread_index_in_quadgroup": ("uint", "t->lane % 4"),
    "thread_index_in_simdgroup": ("uint", "t->lane"),
    "thread_index_in_threadgroup": ("uint", "t->index_in_threadgroup"),
    "thread_position_in_grid": ("uint3", "t->position_in_grid"),
    "thread_position_in_threadgroup": ("uint3", "t->position_in_threadgroup"),
    "threadgroup_position_in_grid": ("uint3", "t->threadgroup_position"),
    "threadgroups_per_grid": ("uint3", "t->groups"),
    "threads_per_grid": ("uint3", "t->grid"),
    "threads_per_simdgroup": ("uint", "32"),
    "threads_per_threadgroup": ("uint3", "t->group_size"),
}
_SIZE = "t->{0}[0] * t->{0}[1] * t->{0}[2]"
_FORMS = (("_shape", "int", "*"), ("_strides", "int64_t", "*"), ("_ndim", "int", "&"))


@dataclass(frozen=True)
class Parameter:
    """One buffer of the kernel: an array, or the shape, strides or number of axes of one."""

    name: str
    type: str  # without address space: "float", "atomic<int32_t>"
    mark: str  # "*", or "&" for what has no axes
    space: str  # "device" or "constant"
    source: tuple[str, int]  # ("input" | "shape" | "strides" | "ndim" | "output", which one)


@dataclass(frozen=True)
class Unit:
    """A kernel made for certain element types and template values."""

    function: str
    parameters: tuple[Parameter, ...]
    metal: str  # what MLX would hand to the Metal compiler, less its own utilities
    code: str  # the C++ translation unit
    collective: bool  # whether threads may wait for one another
    variables: tuple[str, ...]  # threadgroup variables by number

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [parameter.name for parameter in self.parameters if parameter.source[0] == "output"]


@dataclass(frozen=True)
class Source:
    """A kernel as its author wrote it."""

    name: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    body: str
    header: str
    atomic_outputs: bool


@dataclass(frozen=True)
class InputKind:
    """What the signature depends on of an input."""

    dtype: np.dtype
    axes: bool  # whether it has any
    small: bool  # whether it lies in the constant address space

    @classmethod
    def of(cls, array: np.ndarray) -> InputKind:
        return cls(array.dtype, array.ndim > 0, array.size < CONSTANT_BELOW)


@dataclass(frozen=True)
class TemplateValue:
    """A template parameter: "typename", "int" or "bool", its name, and its value as Metal writes it."""

    kind: str
    name: str
    value: str

    @classmethod
    def of(cls, name: str, value: Any) -> TemplateValue:
        """Raises TypeError for a value that is no dtype, int or bool."""
        if isinstance(value, bool | np.bool_):
            return cls("bool", name, str(int(value)))
        if isinstance(value, int | np.integer):
            return cls("int", name, str(int(value)))
        if is_dtype(value):
            return cls("typename", name, METAL_NAMES[as_dtype(value)])
        raise TypeError(f"a template value is a dtype, an int or a bool, not {value!r}")


@cache
def make_unit(
    kernel: Source,
    inputs: tuple[InputKind, ...],
    output_dtypes: tuple[np.dtype, ...],
    template: tuple[TemplateValue, ...],
) -> Unit:
    """Generate the function for these inputs. Raises Unsupported or MetalRejects for the kernel's source."""
    source, header = kernel.body, kernel.header
    values = [parameter.value for parameter in template]
    function = _function_name(kernel.name, values, inputs, output_dtypes)
    parameters = _parameters(kernel, inputs, output_dtypes)
    attributes = [attribute for attribute in ATTRIBUTES if attribute in source]
    kinds = ", ".join(f"{parameter.kind} {parameter.name}" for parameter in template)
    prefix = f"template <{kinds}>\n" if template else ""
    arguments = f"<{', '.join(values)}>" if template else ""
    listed = [
        f"  {'const ' if p.source[0] != 'output' else ''}{p.space} {p.type}{p.mark} {p.name} [[buffer({i})]]"
        for i, p in enumerate(parameters)
    ] + [f"  {ATTRIBUTES[attribute][0]} {attribute} [[{attribute}]]" for attribute in attributes]
    signature = f"{prefix}[[kernel]] void {function}(\n" + ",\n".join(listed) + ") {\n"
    metal = f"{header}{signature}{source}\n}}\n"
    if template:
        made = f"{function}{arguments}"
        metal += f'\ntemplate [[host_name("{function}")]] [[kernel]] decltype({made}) {made};\n'
    lint.check(header, "header")
    lint.check(source, "source")
    rewriter = Rewriter()
    before, body = rewriter.header(header), rewriter.source(source)
    plain = re.sub(r" \[\[.*?\]\]", "", signature).replace("[[kernel]] ", "static ")
    call = ",\n".join([_argument(i, p) for i, p in enumerate(parameters)] + [_attribute(a) for a in attributes])
    code = (
        f'#include "msl.h"\nnamespace msl {{\n#line {HEADER_LINES + 1} "kernel.metal"\n{before}\n'
        f'#line 1 "signature"\n{plain}\n#line 1 "kernel.metal"\n{body}\n}}\n}}\n#line 1 "signature"\n'
        f'extern "C" void msl_kernel(void* const* buffers, const msl_rt::Thread* t) {{\n    using namespace msl;\n'
        f"    (void)buffers, (void)t;\n    {function}{arguments}(\n{call});\n}}\n"
    )
    return Unit(function, parameters, metal, code, rewriter.collective, tuple(rewriter.variables))


def _parameters(
    kernel: Source, inputs: Sequence[InputKind], output_dtypes: Sequence[np.dtype]
) -> tuple[Parameter, ...]:
    found = []
    for i, (name, kind) in enumerate(zip(kernel.input_names, inputs, strict=True)):
        space = "constant" if kind.small else "device"
        found.append(Parameter(name, METAL_NAMES[kind.dtype], "*" if kind.axes else "&", space, ("input", i)))
        for suffix, form, mark in _FORMS:
            if kind.axes and name + suffix in kernel.body:
                found.append(Parameter(name + suffix, form, mark, "constant", (suffix[1:], i)))
    for i, (name, dtype) in enumerate(zip(kernel.output_names, output_dtypes, strict=True)):
        element = METAL_NAMES[dtype]
        written = f"atomic<{element}>" if kernel.atomic_outputs else element
        found.append(Parameter(name, written, "*", "device", ("output", i)))
    return tuple(found)


def _argument(i: int, parameter: Parameter) -> str:
    constant = "const " if parameter.source[0] != "output" else ""
    pointer = f"static_cast<{constant}{parameter.type}*>(buffers[{i}])"
    return f"*{pointer}" if parameter.mark == "&" else pointer


def _attribute(name: str) -> str:
    kind, place = ATTRIBUTES[name]
    place = place.replace("NOMINAL", _SIZE.format("nominal_group_size")).replace("ACTUAL", _SIZE.format("group_size"))
    if kind == "uint":
        return f"uint({place})"
    return f"uint3({place}[0], {place}[1], {place}[2])" if place else "uint3(0u)"


def _function_name(
    name: str, values: Sequence[str], inputs: Sequence[InputKind], output_dtypes: Sequence[np.dtype]
) -> str:
    parts = [f"custom_kernel_{name}", *(value.replace("-", "m") for value in values)]
    for kind in inputs:
        parts.append(METAL_NAMES[kind.dtype] + ("" if kind.axes else "s") + ("c" if kind.axes and kind.small else ""))
    return "_".join([*parts, *(METAL_NAMES[dtype] for dtype in output_dtypes)])
