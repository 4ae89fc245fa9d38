"""Which packages the plan for a GPU needs, which of them are missing on this machine, and which have to be carried to
one that is bare (benchmarks/gpu/bundle.py). This module needs nothing but Python."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version


@dataclass(frozen=True)
class Package:
    """By the name of its wheel (modules may share a folder); what cannot be done without it (None: everything)."""

    wheel: str
    without: str | None = None


PACKAGES = (
    *map(Package, ("torch", "triton", "numpy", "scipy", "click", "rich", "pydantic", "safetensors")),
    *map(Package, ("ml_dtypes", "filelock", "jsonlines", "psutil", "tomli_w", "tiktoken", "pyarrow")),
    Package("rustbpe", "a dataset can be used, not prepared"),
    Package("pytest", "the GPU tests are left out"),
    Package("nvtx", "the ranges of profiles and traces are PyTorch's"),
    Package("liger-kernel", "Liger's kernels are not among the arms"),
    Package("quack-kernels", "quack's kernels are not among the arms"),
    Package("flash-attn-4", "FlashAttention 4 is neither an arm nor the trainer's attention"),
    Package("flash-attn", "FlashAttention 2 is not among the arms"),
)
# What the machines that are lent have beside PyTorch and Triton.
MACHINE = (
    *("torch", "triton", "numpy", "scipy", "rich", "safetensors", "tiktoken", "pyarrow", "ml_dtypes", "filelock"),
    *("psutil", "pytest", "click"),
)
PROGRAMS = {
    "nvidia-smi": "the GPU cannot be named",
    "cc": "Triton and torch.compile cannot build their launchers",
    "ncu": "no reading of the hardware counters",
}


def look() -> dict[str, list[str]]:
    """{"missing": without which nothing runs, "optional": what is missed besides, "present": name and version}."""
    missing, optional, present = [], [], []
    for package in PACKAGES:
        if found := _version(package.wheel):
            present.append(f"{package.wheel} {found}")
        elif package.without is None:
            missing.append(package.wheel)
        else:
            optional.append(f"{package.wheel}: {package.without}")
    for program, without in PROGRAMS.items():
        if shutil.which(program) is None and not (program == "cc" and shutil.which("gcc")):
            optional.append(f"{program}: {without}")
    return {"missing": missing, "optional": optional, "present": present}


def _version(wheel: str) -> str:
    try:
        return version(wheel)
    except PackageNotFoundError:
        return ""


def to_carry(without: list[str]) -> list[str]:
    """["name==version", ...] of the packages and what they need in turn, at the versions installed here; those that are
    not installed by their names. `without`, and what only these need, stays at home."""
    from packaging.requirements import Requirement

    left_out, found = {_normal(name) for name in without}, {}
    waiting = [package.wheel for package in PACKAGES]
    while waiting:
        name = _normal(waiting.pop())
        if name in left_out or name in found:
            continue
        if not _version(name):
            found[name] = name
            continue
        found[name] = f"{name}=={_version(name).partition('+')[0]}"
        needed = [Requirement(text) for text in requires(name) or []]
        waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return sorted(found.values())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
