"""Which hardware this is, as far as it decides what to train: NVIDIA's GPU or AMD's, Apple chip, or processor.

Asks the system's own tools, so that no framework is needed. Every question goes through one function, so that a Mac can
be examined from anywhere.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from autoresearch_trainer.process import usable_cores

# Runs a command and returns what it prints; empty where it is missing or fails.
Ask = Callable[[list[str]], str]

# Instruction sets worth naming: those that decide how fast a matrix product can be, best first.
ISA = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "sme", "sve2", "sve", "bf16", "asimd")
# AMD's driver describes every processor and GPU that it knows in a folder here, without a tool of its own.
KFD = Path("/sys/class/kfd/kfd/topology/nodes")
_SYSCTL_ISA = {"feat_sme": "sme", "feat_bf16": "bf16", "neon": "asimd", "advsimd": "asimd", "avx2_0": "avx2"}


@dataclass(frozen=True)
class Hardware:
    """kind: "nvidia", "amd", "apple" or "cpu". generation and tier ("base", "Pro", "Max", "Ultra"): of an Apple chip.

    memory_gb: of the GPU, or of the system where they share it. cores: physical ones of the processor.
    """

    kind: str
    name: str
    memory_gb: float
    cores: int
    isa: tuple[str, ...] = ()
    generation: int | None = None
    tier: str | None = None
    gpu_cores: int | None = None

    def plain(self) -> dict[str, object]:
        return asdict(self)

    def describe(self) -> str:
        """One line for people."""
        if self.kind in ("nvidia", "amd"):
            return f"{self.name}, {self.memory_gb:.0f} GiB"
        gpu = f", {self.gpu_cores} GPU cores" if self.gpu_cores else ""
        isa = f", {' '.join(self.isa)}" if self.isa and self.kind == "cpu" else ""
        return f"{self.name}, {self.cores} cores{gpu}, {self.memory_gb:.0f} GiB{isa}"


def output(command: list[str]) -> str:
    """The real `Ask`."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


@lru_cache(maxsize=4)
def detect(engine: str) -> Hardware:
    """The hardware that `engine` ("cuda", "mlx", "mps" or "cpu") uses on this machine."""
    if engine == "cuda":
        return nvidia(output) or amd() or processor(output, sys.platform)
    if engine in ("mlx", "mps") and sys.platform == "darwin":
        return apple(output) or processor(output, sys.platform)
    return processor(output, sys.platform)


def has_apple_gpu() -> bool:
    """Whether this is a Mac with Apple silicon: what Metal kernels need."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def nvidia(ask: Ask) -> Hardware | None:
    """The first NVIDIA GPU; None where the driver's tool lists none."""
    answer = ask(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"])
    for line in answer.splitlines():
        name, _, memory = line.rpartition(",")
        if name and memory.strip().isdigit():
            return Hardware("nvidia", name.strip(), int(memory) / 1024, usable_cores())
    return None


def amd(nodes: Path = KFD) -> Hardware | None:
    """AMD's first GPU; None where its driver describes none that this process may use."""
    for node in sorted(nodes.glob("[0-9]*"), key=lambda path: int(path.name)):
        version = _property(node / "properties", "gfx_target_version")  # 90402 = gfx942, 0 = a processor
        if version:
            banks = (_property(bank, "size_in_bytes") for bank in node.glob("mem_banks/*/properties"))
            name = f"AMD gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
            return Hardware("amd", name, sum(banks) / 2**30, usable_cores())
    return None


def _property(file: Path, name: str) -> int:
    """The number behind a name in a file of lines like that; 0 where there is none, or it may not be read."""
    try:
        fields = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
        return int(fields.get(name, 0))
    except (OSError, ValueError):
        return 0


def apple(ask: Ask) -> Hardware | None:
    """The chip of an Apple silicon Mac; None on another machine."""
    name = ask(["sysctl", "-n", "machdep.cpu.brand_string"]).strip()
    found = re.fullmatch(r"Apple M(\d+)(?: (Pro|Max|Ultra))?", name)
    if not found:
        return None
    memory = ask(["sysctl", "-n", "hw.memsize"]).strip()
    cores = ask(["sysctl", "-n", "hw.physicalcpu"]).strip()
    displays = ask(["system_profiler", "SPDisplaysDataType"])
    gpu = re.search(r"Total Number of Cores:\s*(\d+)", displays)
    return Hardware(
        "apple",
        name,
        int(memory) / 2**30 if memory.isdigit() else 0.0,
        int(cores) if cores.isdigit() else usable_cores(),
        generation=int(found[1]),
        tier=found[2] or "base",
        gpu_cores=int(gpu[1]) if gpu else None,
    )


def processor(ask: Ask, system: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> Hardware:
    """The processor, whatever it is, with the instruction sets that matter here."""
    if system == "darwin":
        name = ask(["sysctl", "-n", "machdep.cpu.brand_string"]).strip()
        lines = ask(["sysctl", "hw.optional"]).splitlines()
        on = {line.partition(":")[0].rpartition(".")[2].lower() for line in lines if line.strip().endswith(": 1")}
        flags = {_SYSCTL_ISA.get(flag, flag) for flag in on}
    else:
        name, flags = _from_cpuinfo(cpuinfo)
    memory = psutil.virtual_memory().total / 2**30
    known = tuple(flag for flag in ISA if flag in flags)
    return Hardware("cpu", name or platform.processor() or platform.machine(), memory, usable_cores(), known)


def _from_cpuinfo(path: Path) -> tuple[str, set[str]]:
    """Name and features of the first processor (x86 and ARM use different field names)."""
    try:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return "", set()
    pairs = (line.partition(":") for line in first.splitlines())
    fields = {key.strip().lower(): value.strip() for key, _, value in pairs}
    return fields.get("model name", ""), set((fields.get("flags") or fields.get("features") or "").split())


def suggest_preset(hardware: Hardware) -> tuple[str, str]:
    """(preset, why). Within five minutes more optimizer steps beat a bigger model on every kind of machine, so the
    presets stay small: depth 4, 6 and 8 for the tiers of Apple's chips, and by memory on NVIDIA's GPUs and AMD's.
    """
    if hardware.kind in ("nvidia", "amd"):
        return _by_memory(hardware.memory_gb)
    if hardware.kind == "apple":
        chip = f"{hardware.name}, {hardware.memory_gb:.0f} GiB"
        if hardware.tier in ("Max", "Ultra"):
            return "m5-large", f"{chip}: tier {hardware.tier}, depth 8"
        if hardware.tier == "Pro" or hardware.memory_gb >= 24:
            return "m5-balanced", f"{chip}: tier {hardware.tier}, depth 6"
        return "m5-small", f"{chip}: tier {hardware.tier}, depth 4"
    fast = {"amx_bf16", "avx512_bf16", "sme"} & set(hardware.isa)
    if hardware.cores >= 8 and fast:
        return "cpu-tiny", f"{hardware.cores} cores with {min(fast)}"
    return "cpu-nano", f"{hardware.cores} cores" + ("" if fast else " without bfloat16 matrix instructions")


def _by_memory(memory_gb: float) -> tuple[str, str]:
    held = f"{memory_gb:.0f} GiB of GPU memory"
    if memory_gb >= 16:
        return "upstream", f"{held}: depth 8, sequences of 2048"
    if memory_gb >= 8:
        return "m5-balanced", f"{held}: depth 6"
    return "m5-small", f"{held}: depth 4"
