"""Which packages the suite needs, and which of them are missing on this machine."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Package:
    """A module, the name of its wheel, and what cannot be done without it (None: everything)."""

    module: str
    wheel: str
    without: str | None = None


PACKAGES = (
    *(
        Package(name, name)
        for name in ("torch", "triton", "numpy", "scipy", "click", "rich", "pydantic", "safetensors")
    ),
    *(Package(name, name) for name in ("ml_dtypes", "filelock", "jsonlines", "psutil", "tomli_w")),
    Package("pyarrow", "pyarrow"),
    Package("tiktoken", "tiktoken"),
    Package("rustbpe", "rustbpe", "a dataset can be used, not prepared"),
    Package("pytest", "pytest", "the GPU tests are left out"),
    Package("nvtx", "nvtx", "profiles have no ranges"),
    Package("liger_kernel", "liger-kernel", "Liger's kernels are not among the arms"),
    Package("quack", "quack-kernels", "quack's kernels are not among the arms"),
    Package("flash_attn", "flash-attn", "FlashAttention is not among the arms"),
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
        if importlib.util.find_spec(package.module) is not None:
            present.append(f"{package.wheel} {_version(package.wheel)}".strip())
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
