"""A workspace for rms_norm in a lab of its own, with one captured call."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoresearch_common import workload as w
from autoresearch_common.arrays import storage, write_arrays
from autoresearch_lab import workloads
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.sandbox import forked
from autoresearch_lab.verify.plan import Planner
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_lab.workspace import Workspace, create


@pytest.fixture(scope="module")
def uncompiled() -> Iterator[None]:
    """Verifications make no compiled calls, which take half of the time. For tests of what they tell, not of what they
    find."""
    plan = Planner.cases
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Planner, "cases", lambda self: [replace(case, compiled=False) for case in plan(self)])
        yield


@pytest.fixture(params=["started", "forked"])
def modules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a job is told to import first; where that is anything, it is forked, and must be."""
    if request.param == "started":
        return []
    if sys.platform != "linux":
        pytest.skip("jobs are forked on Linux")
    real, named = forked.start, ["json"]

    def start(job_file: Path, modules: Sequence[str], **options: Any) -> forked.Forked:
        process = real(job_file, named, **options)
        assert process is not None
        return process

    monkeypatch.setattr(forked, "start", start)
    return named


@pytest.fixture
def context() -> Context:
    return Context(ENGINES["cpu"], {"kind": "cpu", "key": "device"}, {"key": "software"})


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    return Root(tmp_path)


@pytest.fixture
def call_shape() -> tuple[int, int]:
    return (4, 32)


@pytest.fixture
def captured(root: Root, tmp_path: Path, call_shape: tuple[int, int]) -> WorkloadSet:
    """One call of rms_norm on ones."""
    spec = {
        "name": "x", "kind": "array", "dtype": "bfloat16", "shape": list(call_shape),
        "strides": w.contiguous(call_shape),
        "grad": True,
    }  # fmt: skip
    sample = {"file": "rms_norm.safetensors", "prefix": "rms_norm-1/"}
    call = {
        "id": "rms_norm-1", "target": "rms_norm", "args": [spec, {"name": "eps", "kind": "scalar", "value": 1e-6}],
        "phase": "forward", "calls_per_step": 2.0, "sample": sample,
    }  # fmt: skip
    write_arrays(tmp_path / "s", {"rms_norm-1/x": np.ones(call_shape).astype(storage("bfloat16"))})
    data = {"name": "d", "fingerprint": "f"}
    return workloads.save(
        root, "rms_norm", engine="cpu", preset="test", data=data, workloads=[call], sample=tmp_path / "s"
    )


@pytest.fixture
def opened(context: Context, root: Root, captured: WorkloadSet) -> tuple[Workspace, Ledger]:
    ledger = Ledger(root.ledger)
    target = load_catalog(root)["rms_norm"]
    return create(target, root.workspaces / "one", Lab.of(context, root, ledger), captured), ledger
