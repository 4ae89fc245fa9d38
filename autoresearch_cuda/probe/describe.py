"""Job `describe`: which device this is and with which software, as evidence is keyed by them.

Most verbs ask it, so it does not import PyTorch, which takes seconds, unless a GPU is asked for.
"""

import platform
from pathlib import Path

from autoresearch_common import instruction_set
from autoresearch_cuda.probe import Report
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.base import Facts
from autoresearch_trainer.jobs.machine import DescribeAnswer, DescribeArgs
from autoresearch_trainer.probe.identity import (
    describe_compiler,
    describe_cpu,
    installed,
    installed_triton,
    output,
    torch_build,
)


def run(args: DescribeArgs, run_dir: Path, report: Report) -> DescribeAnswer:
    """Of the device "cpu" or "cuda"."""
    return DescribeAnswer(device=describe(args.device), software=describe_software(args.device))


def describe(kind: str) -> Facts:
    """Identity of the device of that kind. Raises ConfigError for an unknown kind, or where there is none."""
    if kind == "cpu":
        return describe_cpu()
    if kind == "cuda":
        return describe_gpu()
    raise ConfigError(f"unknown device {kind!r}; known: cpu, cuda")


def describe_gpu(index: int = 0) -> Facts:
    """Identity of a GPU, NVIDIA's or, in a ROCm build of PyTorch, AMD's. Raises ConfigError where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("PyTorch reaches no CUDA device (no GPU, no driver, or a CPU build of torch)")
    properties = torch.cuda.get_device_properties(index)
    amd = torch.version.hip is not None
    # "gfx942:sramecc+:xnack-": what follows the architecture are settings, which compiled code depends on as well.
    architecture = properties.gcnArchName if amd else f"{properties.major}.{properties.minor}"
    return {
        "kind": "cuda",
        "name": properties.name,
        "capability": architecture,
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 2**30),
        "driver": _amd_driver() if amd else _gpu_driver(index),
        "os": platform.system(),
        "arch": platform.machine(),
    }


def describe_software(kind: str) -> dict[str, str | None]:
    """Versions of what runs or builds kernels, and what C++ kernels are compiled for; None where there is none.

    Raises ConfigError for an instruction set that this processor has not.
    """
    torch = torch_build()
    return {
        "python": platform.python_version(),
        "torch": torch["__version__"],
        "numpy": installed("numpy"),
        "compiler": describe_compiler(),
        "triton": installed_triton(),
        "cuda": torch["cuda"] if kind == "cuda" else None,
        "instruction_set": _instruction_set() if kind == "cpu" else None,
        **({"attention": _attention(), "hip": torch.get("hip")} if kind == "cuda" else {}),
    }


def _attention() -> str | None:
    """What the baseline's attention may come from on a GPU."""
    found = [(name, installed(name)) for name in ("flash-attn-3", "flash-attn-4", "nvidia-cutlass-dsl", "flash-attn")]
    return ", ".join(f"{name} {version}" for name, version in found if version) or None


def _instruction_set() -> str:
    try:
        return instruction_set.active().name
    except instruction_set.InstructionSetError as error:
        raise ConfigError(str(error)) from None


def _gpu_driver(index: int) -> str | None:
    query = ["nvidia-smi", f"--id={index}", "--query-gpu=driver_version", "--format=csv,noheader"]
    return output(query).strip() or None


def _amd_driver() -> str | None:
    """Of a driver that was installed by itself; the kernel's own has no number."""
    try:
        return Path("/sys/module/amdgpu/version").read_text(encoding="ascii").strip()
    except OSError:
        return None
