"""Loads oracles: they are files in `kernels/<target>/`, not a package."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load_oracle(kernels: Path, target: str) -> ModuleType:
    """The oracle of `target` in the folder `kernels`, as a fresh module.

    Raises:
        FileNotFoundError: there is none.
    """
    path = kernels / target / "oracle.py"
    spec = importlib.util.spec_from_file_location(f"oracle_of_{target}", path)
    assert spec is not None and spec.loader is not None  # a path that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_part(oracle: str, target: str) -> ModuleType:
    """The oracle of the smaller target `target`, for the oracle file `oracle` (its `__file__`) of a composite one.

    Raises:
        FileNotFoundError: the folder beside that file's has none.
    """
    return load_oracle(Path(oracle).resolve().parents[1], target)
