"""Job `describe`: which device this is and with which software, as evidence is keyed by them.

Most verbs ask it, so it does not import PyTorch, which takes seconds, unless a GPU is asked for.
"""

import importlib.util
import platform
import runpy
from pathlib import Path
from typing import Any

from autoresearch_common import instruction_set
from autoresearch_cuda.probe import Report
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.base import Facts
from autoresearch_trainer.jobs.machine import DescribeAnswer, DescribeArgs
from autoresearch_trainer.probe.identity import describe_compiler, describe_cpu, installed, output


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
    """Identity of an NVIDIA GPU. Raises ConfigError where PyTorch reaches none."""
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("PyTorch reaches no CUDA device (no GPU, no driver, or a CPU build of torch)")
    properties = torch.cuda.get_device_properties(index)
    return {
        "kind": "cuda",
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 2**30),
        "driver": _gpu_driver(index),
        "os": platform.system(),
        "arch": platform.machine(),
    }


def describe_software(kind: str) -> dict[str, str | None]:
    """Versions of what runs or builds kernels, and what C++ kernels are compiled for; None where there is none.

    Raises ConfigError for an instruction set that this processor has not.
    """
    torch = _torch_versions()
    return {
        "python": platform.python_version(),
        "torch": torch["__version__"],
        "numpy": installed("numpy"),
        "compiler": describe_compiler(),
        "triton": installed("triton"),
        "cuda": torch["cuda"] if kind == "cuda" else None,
        "instruction_set": _instruction_set() if kind == "cpu" else None,
        **({"attention": _attention()} if kind == "cuda" else {}),
    }


def _attention() -> str | None:
    """What the baseline's attention may come from on a GPU."""
    found = [(name, installed(name)) for name in ("flash-attn-3", "flash-attn-4", "nvidia-cutlass-dsl", "flash-attn")]
    return ", ".join(f"{name} {version}" for name, version in found if version) or None


def _torch_versions() -> dict[str, Any]:
    """What the module torch.version defines."""
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None  # the engine was chosen because it is there
    return runpy.run_path(str(Path(found.origin).with_name("version.py")))


def _instruction_set() -> str:
    try:
        return instruction_set.active().name
    except instruction_set.InstructionSetError as error:
        raise ConfigError(str(error)) from None


def _gpu_driver(index: int) -> str | None:
    query = ["nvidia-smi", f"--id={index}", "--query-gpu=driver_version", "--format=csv,noheader"]
    return output(query).strip() or None
