"""Planted kernels: the baseline's source with a known change, written to a file of its own.

The extra work is a loop that counts: one thread, no memory, the same number of turns in every call of one size. Harm is
done where it is known: gradients pass through a factor of 0.99, or results lose bits of their mantissa.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autoresearch_common.files import write_atomic
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError, files_at_hand

_SLOWED = '''

import functools as _functools

_TURNS = {turns}
_plain = {name}


def _count(turns):
    for _ in range(turns):
        pass


@_functools.wraps(_plain)
def {name}(*arguments):
    """The kernel above after extra work, whose size goes by that of the first argument."""
    _count(_TURNS.get(arguments[0].numel(), 0))
    return _plain(*arguments)
'''

_GRADIENT = '''

import functools as _functools

_plain = {name}


class _Smaller(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return 0.99 * g


@_functools.wraps(_plain)
def {name}(*arguments):
    """The kernel above, with all gradients 1 % too small."""
    return _plain(*(_Smaller.apply(a) if isinstance(a, torch.Tensor) and a.requires_grad else a for a in arguments))
'''

_PRECISION = '''

import functools as _functools

_plain = {name}
# Bits of the mantissa that are lost: what is left is a bfloat16 of a float32, and about a float8 of a 16-bit number.
_LOST = {{torch.float32: (torch.int32, 16), torch.bfloat16: (torch.int16, 4), torch.float16: (torch.int16, 7)}}


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        kind, lost = _LOST[y.dtype]
        bits = (y.contiguous().view(kind) + (1 << (lost - 1))) & -(1 << lost)
        return torch.where(y.isfinite(), bits.view(y.dtype), y)

    @staticmethod
    def backward(ctx, g):
        return g


@_functools.wraps(_plain)
def {name}(*arguments):
    """The kernel above, its results rounded to the next lower precision."""
    return _Rounded.apply(_plain(*arguments))
'''


def null_source(source: str, note: str) -> str:
    """The same kernel; only its hash differs."""
    return f"{source}\n# {note}\n"


def slowed_source(source: str, name: str, turns: Mapping[int, int], note: str) -> str:
    """The kernel with extra work. turns: {elements of the first argument: turns of the loop in a call}."""
    return null_source(source + _SLOWED.format(name=name, turns=dict(sorted(turns.items()))), note)


def gradient_source(source: str, name: str, note: str) -> str:
    """The kernel with gradients that are 1 % too small; its results are untouched."""
    return null_source(source + _GRADIENT.format(name=name), note)


def precision_source(source: str, name: str, note: str) -> str:
    """The kernel (one floating output) with its results rounded to the next lower precision."""
    return null_source(source + _PRECISION.format(name=name), note)


def plant(folder: Path, like: Kernel, name: str, source: str) -> Kernel:
    """Write a planted kernel of `like`'s target; where the same source lies there already it is left as it is."""
    path = folder / like.target / f"{name}.py"
    if not path.is_file() or path.read_text(encoding="utf-8") != source:
        write_atomic(path, source)
    return replace(like, name=name, role="candidate", language="python", path=path, summary="planted for calibration")


def against(target: Target, baseline: Kernel, *, library: bool) -> Target:
    """The target as a bench shall see it: `baseline` as what the trainer uses, the library's kernels only if wanted."""
    libraries = [kernel for kernel in target.kernels if kernel.role == "library"] if library else []
    return replace(target, kernels=(replace(baseline, role="baseline"), *libraries))


def can_be_slowed(target: Target) -> bool:
    """Whether the size of a call can be told from its first argument."""
    return target.contract.args[0].kind == "array"


def can_be_harmed(target: Target) -> bool:
    """Whether both harms can be planted: gradients are needed, and there is one floating result."""
    return target.differentiable and len(target.contract.outputs) == 1 and target.contract.outputs[0].dtype != "bool"


def source_of(kernel: Kernel) -> str:
    """Its Python source. Raises LabError where it cannot be read or has native sources, which a copy would lose."""
    for suffix in (".cpp", ".cu", ".metal"):
        if kernel.path.with_suffix(suffix).is_file():
            raise LabError(f"calibrate: the baseline {kernel.target}/{kernel.name} has native sources; cannot plant")
    with files_at_hand(f"calibrate: cannot read {kernel.path}"):
        return kernel.path.read_text(encoding="utf-8")
