"""What a target's contract says of its calls and of the errors that are allowed, as a training run needs it."""

from __future__ import annotations

from dataclasses import dataclass

from autoresearch_common.reading import read_toml
from autoresearch_trainer.kernel_files import KERNELS_ROOT, KernelFile


@dataclass(frozen=True)
class CallContract:
    """arguments, outputs: names in order; updated: arguments that are updated in place; factor, floor (by dtype): the
    allowed error, see `autoresearch_common.tolerance.allowed`. trusted: implementations beside the baseline whose
    errors a kernel may have."""

    target: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    updated: frozenset[str]
    factor: float
    floor: dict[str, float]
    trusted: tuple[KernelFile, ...]


def read(target: str, framework: str, device: str) -> CallContract:
    """The contract of an installed target. As in `verify`, libraries and public formulas are trusted on a CPU only."""
    folder = KERNELS_ROOT / target
    found = read_toml(folder / "target.toml")
    names = [
        entry["file"]
        for entry in found["kernels"]
        if (entry["framework"], entry["role"], entry["language"]) == (framework, "library", "python")
        and device in entry["devices"]
        and "requires" not in entry
    ]
    paths = [folder / name for name in (*names, "reference_public.py")] if device == "cpu" else []
    return CallContract(
        target,
        tuple(one["name"] for one in found["args"]),
        tuple(one["name"] for one in found["outputs"]),
        frozenset(one["name"] for one in found["args"] if one.get("inplace")),
        found["tolerance"]["factor"],
        found["tolerance"]["floor"],
        tuple(KernelFile.at(target, path) for path in paths if path.is_file()),
    )
