"""Kernels and captured workloads as plain data: packed on the driver, unpacked on a worker, hashes checked there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoresearch_common.hashing import KERNEL_SUFFIXES
from autoresearch_lab import workloads
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.errors import LabError
from autoresearch_lab.workloads import WorkloadSet


def pack_kernel(kernel: Kernel) -> dict[str, Any]:
    """A kernel with the bytes of its Python file and of its native sources, and the hash that they must have."""
    parts = {suffix: kernel.path.with_suffix(suffix) for suffix in KERNEL_SUFFIXES}
    return {
        "target": kernel.target,
        "name": kernel.name,
        "framework": kernel.framework,
        "devices": list(kernel.devices),
        "language": kernel.language,
        "requires": kernel.requires,
        "stem": kernel.path.stem,
        "sha256": kernel.sha256,
        "files": {suffix: path.read_bytes() for suffix, path in parts.items() if path.is_file()},
    }


def unpack_kernel(packed: dict[str, Any], folder: Path) -> Kernel:
    """Write the kernel's files into `folder`, which is new.

    Raises:
        LabError: they are not what they were when the kernel was chosen.
    """
    folder.mkdir(parents=True)
    for suffix, content in packed["files"].items():
        (folder / f"{packed['stem']}{suffix}").write_bytes(content)
    kernel = Kernel(
        packed["target"],
        packed["name"],
        packed["framework"],
        tuple(packed["devices"]),
        "candidate",
        packed["language"],
        folder / f"{packed['stem']}.py",
        requires=packed["requires"],
    )
    if not kernel.path.is_file() or kernel.sha256 != packed["sha256"]:
        raise LabError(f"{kernel.target}/{kernel.name} was changed on its way to the worker; run orchestrate again")
    return kernel


def pack_workloads(captured: WorkloadSet) -> dict[str, Any]:
    """A captured set: its calls, its samples, and the hash of both."""
    return {
        "target": captured.target,
        "sha256": captured.sha256,
        "calls": captured.path.read_bytes(),
        "samples": captured.sample_path.read_bytes(),
    }


def unpack_workloads(packed: dict[str, Any], folder: Path) -> WorkloadSet:
    """The set below `folder`; written there unless it was before.

    Raises:
        LabError: its content is not that of its hash.
    """
    path = folder / packed["sha256"][:16] / f"{packed['target']}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".safetensors").write_bytes(packed["samples"])
        path.write_bytes(packed["calls"])
    return workloads.load(path, expected=packed["sha256"])
