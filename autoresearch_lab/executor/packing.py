"""What travels between driver and worker, as plain data: kernels, captured workloads, steps and replies. They are
packed on one side and unpacked on the other, where hashes are checked."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue
from typing_extensions import TypedDict

from autoresearch_common.hashing import KERNEL_SUFFIXES
from autoresearch_lab import workloads
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.errors import LabError
from autoresearch_lab.workloads import WorkloadSet


class PackedKernel(TypedDict):
    """A kernel with the bytes of its files by suffix, and the hash that they must have."""

    target: str
    name: str
    framework: str
    devices: list[str]
    language: str
    requires: str
    stem: str
    sha256: str
    files: dict[str, bytes]


class PackedWorkloads(TypedDict):
    """A captured set: the files of its calls and its samples, and the hash of both."""

    target: str
    sha256: str
    calls: bytes
    samples: bytes


class Task(TypedDict):
    """A step for a worker. records: those of the driver's ledger that it rests on; profile: id of the record that the
    workloads come from; bench_seconds: budget of a benchmark."""

    step: str
    kernel: PackedKernel
    records: list[dict[str, JsonValue]]
    profile: str | None
    bench_seconds: float


class Reply(TypedDict):
    """What came of a step. records: what it appended; files: {path in a record: content}; error: None, or the name of
    the error's class and its message."""

    records: list[dict[str, JsonValue]]
    files: dict[str, bytes]
    error: list[str] | None


class Hello(TypedDict):
    """Who a worker is. error: in words, where it cannot work; then the rest means nothing. niceness: it runs at."""

    error: str | None
    device: dict[str, JsonValue]
    software: dict[str, JsonValue]
    machine: str
    niceness: int


class RecordExecutor(TypedDict):
    """As the settings of a record say where it was made."""

    name: str
    node: str
    niceness: int


def pack_kernel(kernel: Kernel) -> PackedKernel:
    """A kernel with its Python file and its native sources."""
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


def unpack_kernel(packed: PackedKernel, folder: Path) -> Kernel:
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
        raise LabError(f"{kernel.target}={kernel.name} was changed on its way to the worker; run orchestrate again")
    return kernel


def pack_workloads(captured: WorkloadSet) -> PackedWorkloads:
    """A captured set with its files."""
    return {
        "target": captured.target,
        "sha256": captured.sha256,
        "calls": captured.path.read_bytes(),
        "samples": captured.sample_path.read_bytes(),
    }


def unpack_workloads(packed: PackedWorkloads, folder: Path) -> WorkloadSet:
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
