"""Command lines that the lab suggests: they name the root and the engine wherever they would mean others without."""

from __future__ import annotations

import shlex
from pathlib import Path

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import automatic
from autoresearch_lab.paths import CHECKOUT


def command_line(verb: str, target: Target, kernel: Kernel, engine: str, *more: str) -> str:
    """The command that does `verb` to this kernel, whether it is one of the catalogue or of a workspace."""
    of_catalogue = kernel.path.parent == target.folder
    subject = f"{target.name}={kernel.name}" if of_catalogue else str(kernel.path.parent)
    # A target's folder is ROOT/kernels/NAME.
    return " ".join([program(target.folder.parents[1], engine), verb, shlex.join([subject, *more])])


def program(root: Path, engine: str | None = None) -> str:
    """`kernel-lab` with the global options that are needed to get to this root and, if given, to this engine."""
    words = ["kernel-lab"]
    if root.resolve() != CHECKOUT:
        words += ["--root", str(root)]
    if engine is not None and engine != automatic():
        words += ["--engine", engine]
    return shlex.join(words)
