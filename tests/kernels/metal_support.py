"""What the tests of Metal kernels share: which there are, and how one is verified on the CPU."""

import importlib.util
from pathlib import Path

import pytest

from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.engine import interpreter
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import Record
from autoresearch_lab.verify.run import Prepared, verify
from autoresearch_lab.verify.small import small_workloads

SEED = 20250301
CATALOG = load_catalog(Root())
KERNELS = [kernel for target in CATALOG.values() for kernel in target.kernels if kernel.language == "metal"]
NAMES = [f"{kernel.target}={kernel.name}" for kernel in KERNELS]


def _obstacle() -> str:
    """Why Metal kernels cannot be run on this machine's CPU; empty where they can."""
    try:
        interpreter("metal")
    except LabError as error:
        return str(error)
    return "" if importlib.util.find_spec("mlx.core") else "MLX has no backend for this system"


needs_metal_cpu = pytest.mark.skipif(bool(_obstacle()), reason=_obstacle())


def verify_on_cpu(kernel: Kernel, folder: Path, prepared: dict[str, Prepared] | None = None) -> Record:
    """A verification with a ledger of its own in `folder`."""
    target = CATALOG[kernel.target]
    context = Context(interpreter("metal"), {"kind": "metal-cpu", "key": "metal-cpu-test"}, {"key": "test"})
    return verify(
        kernel,
        target,
        small_workloads(target, context.engine.name),
        Lab.of(context, Root(folder), Ledger(folder / "ledger.jsonl")),
        seed=SEED,
        run_dir=folder / "run",
        prepared=prepared,
    )
