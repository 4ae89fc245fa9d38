"""What the tests of Triton kernels share: which there are, and how one is verified through the interpreter."""

import importlib.util
from pathlib import Path

import pytest

from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.engine import interpreter
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import Record
from autoresearch_lab.verify.run import Prepared, verify
from autoresearch_lab.verify.small import small_workloads

SEED = 20250301
CATALOG = load_catalog(Root())
KERNELS = [kernel for target in CATALOG.values() for kernel in target.kernels if kernel.language == "triton"]
NAMES = [f"{kernel.target}={kernel.name}" for kernel in KERNELS]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def verify_interpreted(kernel: Kernel, folder: Path, prepared: dict[str, Prepared] | None = None) -> Record:
    """A verification with a ledger of its own in `folder`."""
    target = CATALOG[kernel.target]
    context = Context(interpreter(), {"kind": "interpreter", "key": "interpreter-test"}, {"key": "test"})
    return verify(
        kernel,
        target,
        small_workloads(target, context.engine.name),
        Lab.of(context, Root(folder), Ledger(folder / "ledger.jsonl")),
        seed=SEED + 1,  # with SEED loss_head lacks a NaN, see docs/decisions.md, 2026-11-30
        run_dir=folder / "run",
        prepared=prepared,
    )
