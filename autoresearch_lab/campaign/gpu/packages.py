"""Which packages the plan for a GPU needs, and which of them are missing on this machine.

python -m benchmarks.gpu.packages [--without torch,numpy,...] prints what to carry to a bare machine, as it is installed
here, for `pip download`; docs/cuda.md, "A GPU at hand". This module needs nothing but Python.
"""

from __future__ import annotations

import argparse
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
    *map(Package, ("ml_dtypes", "filelock", "jsonlines", "psutil", "tomli_w", "tiktoken")),
    *(Package(name, "a dataset can be used, not prepared") for name in ("pyarrow", "rustbpe")),
    Package("pytest", "the GPU tests are left out"),
    Package("nvtx", "the ranges of profiles and traces are PyTorch's"),
    Package("liger-kernel", "Liger's kernels are not among the arms"),
    Package("quack-kernels", "quack's kernels are not among the arms"),
    Package("flash-attn-4", "FlashAttention 4 is neither an arm nor the trainer's attention"),
    Package("flash-attn", "FlashAttention 2 is not among the arms"),
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
    """["name==version", ...] of the packages and what they need in turn, at the versions installed here. `without`, and
    what only these need, stays at home; so does what is not installed here."""
    from packaging.requirements import Requirement

    left_out, found = {_normal(name) for name in without}, {}
    waiting = [package.wheel for package in PACKAGES]
    while waiting:
        name = _normal(waiting.pop())
        if name in left_out or name in found or not _version(name):
            continue
        found[name] = f"{name}=={_version(name).partition('+')[0]}"
        needed = [Requirement(text) for text in requires(name) or []]
        waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return sorted(found.values())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    parser = argparse.ArgumentParser(description="What to carry to a machine that has PyTorch and little else.")
    parser.add_argument("--without", default="torch,triton,numpy", help="is there [default: %(default)s]")
    print("\n".join(to_carry(parser.parse_args().without.split(","))))


if __name__ == "__main__":
    main()
