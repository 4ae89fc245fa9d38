"""The code that a worker runs: copied from this checkout, sent along, and compared file by file before work starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from autoresearch_common.hashing import file_sha256
from autoresearch_lab.paths import CHECKOUT, PACKAGES, Root

_KERNELS = "kernels"
# Kernels of a lab whose root is not the checkout; those of the checkout are what composite baselines are made of.
_ROOT_KERNELS = "root/kernels"
# Bytecode differs by itself, promotions are the machine's own, and desktop systems leave files of theirs behind.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "promoted.local.toml", ".*")


def stage(root: Root, folder: Path) -> dict[str, str]:
    """Copy the code and the kernels into `folder`, which is new, and return its manifest: {relative path: sha256}."""
    for name in (*PACKAGES, _KERNELS):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=_LEFT_OUT)
    if root.kernels.resolve() != (CHECKOUT / _KERNELS).resolve():
        shutil.copytree(root.kernels, folder / _ROOT_KERNELS, ignore=_LEFT_OUT)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def difference(manifest: dict[str, str], folder: Path = CHECKOUT) -> str | None:
    """What in `folder` is not as the manifest says, in words; None where nothing is."""
    for name, wanted in manifest.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing there"
        if file_sha256(path) != wanted:
            return f"{name} is another one there"
    return None


def kernels_folder(folder: Path = CHECKOUT) -> Path:
    """Where the kernels of the lab's root lie in a copy that `stage` made."""
    own = folder / _ROOT_KERNELS
    return own if own.is_dir() else folder / _KERNELS
