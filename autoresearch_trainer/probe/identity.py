"""Who this machine is, as evidence is keyed by it: the processor, the compiler, installed packages.

Everything here must come out the same in every run on the same machine: no clock speeds, no free memory, no host name.
"""

import importlib.util
import os
import platform
import re
import runpy
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from autoresearch_common.instruction_set import features
from autoresearch_trainer.jobs.base import Facts
from autoresearch_trainer.process import usable_cores

# Instruction sets that decide what a compiled kernel or the math library can use, as /proc/cpuinfo spells them.
ISA_FLAGS = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme", "sme2"),
)


def describe_cpu() -> Facts:
    """Identity of the processor. Family, model and stepping tell apart generations that share a marketing name."""
    facts = _cpu_from_sysctl() if sys.platform == "darwin" else _cpu_from_proc()
    return {
        "kind": "cpu",
        **facts,
        "isa": [flag for flag in ISA_FLAGS if flag in features()],
        "cores": {"physical": psutil.cpu_count(logical=False), "usable": usable_cores()},
        "os": platform.system(),
        "arch": platform.machine(),
    }


def describe_compiler() -> str | None:
    """Name and version of the C++ compiler that native kernels are built with ($CXX first), e.g. `gcc 13.2.0`."""
    configured = os.environ.get("CXX")
    for command in [shlex.split(configured)] if configured else [["g++"], ["clang++"], ["c++"]]:
        first = output([*command, "--version"]).partition("\n")[0]
        found = re.search(r"\d+\.\d+(\.\d+)?", first)
        if found:
            maker = "clang" if "clang" in first.lower() else "gcc"
            return f"{maker} {found.group()}"
    return None


def _cpu_from_proc() -> Facts:
    """Facts of the first processor in /proc/cpuinfo (x86 and ARM use different field names)."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        first = ""
    pairs = (line.partition(":") for line in first.splitlines())
    fields = {key.strip().lower(): value.strip() for key, _, value in pairs}
    return {
        "name": fields.get("model name") or fields.get("cpu implementer") or platform.processor() or "unknown",
        "family": fields.get("cpu family") or fields.get("cpu architecture"),
        "model": fields.get("model") or fields.get("cpu part"),
        "stepping": fields.get("stepping") or fields.get("cpu revision"),
    }


def _cpu_from_sysctl() -> Facts:
    """Facts of a Mac's processor."""

    def ask(name: str) -> str | None:
        return output(["sysctl", "-n", name]).strip() or None

    return {
        "name": ask("machdep.cpu.brand_string") or "unknown",
        "family": ask("hw.cpufamily"),
        "model": ask("hw.model"),
        "stepping": ask("machdep.cpu.stepping"),
    }


def installed(package: str) -> str | None:
    """The installed version of a package; None where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed_triton() -> str | None:
    """Triton's version; PyTorch's ROCm builds bring one under another name."""
    return next(filter(None, map(installed, ("triton", "triton-rocm", "pytorch-triton-rocm"))), None)


def torch_build() -> dict[str, Any]:
    """What the module torch.version defines ("cuda", "hip": versions or None), without importing PyTorch, which takes
    seconds; empty where it is not installed."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return {}
    return runpy.run_path(str(Path(found.origin).with_name("version.py")))


def output(command: list[str]) -> str:
    """What a command prints; empty where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
