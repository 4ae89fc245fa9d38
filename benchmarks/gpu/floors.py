"""docs/gpu-floors.md: what every Triton kernel has to do at preset `upstream`, and how long that takes at least.

python -m benchmarks.gpu.floors --write docs/gpu-floors.md

Needs Triton and no GPU. The calls are those of a training step on tensors without storage (`upstream`), bytes and
operations the oracles', what the kernels do in their place is read from the compiler's own code (`intervals`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import triton
from torch import Tensor

from autoresearch_common import workload as w
from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_common.workload import Workload
from autoresearch_cuda import triton_device
from autoresearch_cuda.probe.compilation import compile_launch
from autoresearch_cuda.probe.launches import Launch
from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.paths import Root
from autoresearch_trainer.jobs.machine import CompiledKernel
from autoresearch_trainer.summary import datasheet_flops
from benchmarks.gpu.fusion import LAYERS, fusion
from benchmarks.gpu.intervals import Found, read
from benchmarks.gpu.report import show
from benchmarks.gpu.upstream import ARCH, Pretence, Work, pretend

PAGE = Path("docs") / "gpu-floors.md"


@dataclass(frozen=True)
class Card:
    """What NVIDIA states. memory: bytes/s; products: dense bfloat16, plain: float32, no tensor cores, both FLOP/s."""

    name: str
    driver: str
    memory: float
    plain: float

    @property
    def products(self) -> float:
        return datasheet_flops(self.driver) or 0.0

    @property
    def instructions(self) -> float:
        """Of a thread, per second: a fused multiply-add is one, and two operations."""
        return self.plain / 2

    @property
    def special(self) -> float:
        """Special functions per second: 16 lanes of a processor's 128 have them."""
        return self.instructions / 8


SXM = Card("H100 SXM", "NVIDIA H100 80GB HBM3", 3.35e12, 66.9e12)
PCIE = Card("H100 PCIe", "NVIDIA H100 PCIe", 2.0e12, 51.2e12)
H200 = Card("H200", "NVIDIA H200", 4.8e12, 66.9e12)
CARDS = (SXM, PCIE, H200)
HEAD = f"""# Floors on Hopper, by arithmetic

Written by `python -m benchmarks.gpu.floors --write {PAGE}`; nothing here was timed. What was mended by it, and what
was not, is in [Mended by arithmetic](triton-kernels.md#mended-by-arithmetic). The calls are those of one optimizer step
of preset `upstream` with the data centre's batch: 128 sequences of 2,048 tokens, twice per step.
"""
CEILINGS = """As NVIDIA states them: the datasheets of H100 (SXM and PCIe) and H200; products are dense, without
sparsity. Special functions are an eighth of the float32 instructions (CUDA C++ Programming Guide, throughput of native
arithmetic instructions, compute capability 9.0: 16 results of exp2, log2, rcp and rsqrt per clock and processor, 128
of a multiply-add)."""
NEEDS = """Bytes and operations as the oracles count them (`kernels/*/oracle.py`, `cost`); then the least µs: the
greater of both over the ceiling. Operations are held against the rate of products where a kernel makes any, else
against that of float32."""
DOES = """Launches of a call: Triton's, and operations of PyTorch's that do work (products of the library among them).
MB: each launch's arguments, read once and written once, whatever a cache serves again. GFLOP: of matrix products, of
whole tiles. Special: numbers put through exp, log, a root or a division, in millions. Then the least µs, launch by
launch the greatest of the three over its ceiling, and how often that is the floor above. The two losses work out their
gradient in the forward direction, as they do in eager training: compare both directions together. A launch that may
find nothing to do (the second of the eager loss's backward) counts as a launch only."""
CODE = f"""For {ARCH}, each launch in its first configuration there (constants as in the source): registers per thread,
shared memory per program, warps that a processor then holds (of 64), loads from and stores to global memory (how many
of how many bytes per thread), instructions of the machine code, its padding included. Where there is no loop, their µs
on an H100 SXM if every processor issued four per clock without a pause, beside those of its memory: a launch with more
of the former cannot reach its floor."""
# Of a processor of these GPUs.
REGISTERS, SHARED_BYTES, WARPS, RESERVED_BYTES = 65536, 233472, 64, 1024
SMALL = 1 << 16  # bytes of a call below which it is launches and nothing else
FUSION = f"""`torch.compile` sees a kernel as one operator: what it reads and writes is in memory, and its neighbours
are fused without it. Below a forward and backward pass of `upstream` with {LAYERS} layers, as Inductor's scheduler
groups it, with the baseline and with each kernel alone: launches that Inductor makes up and what they read and write,
then the arguments and results of everything else, the library's products and the kernel (not what it moves inside: see
above). The scheduler is the CPU's, for want of a GPU; the baseline's attention is the CPU's as well, so the row of
`windowed_attention` says nothing. A part of a composite target, such as `rms_norm`, is inside the baseline's."""


@dataclass
class Row:
    """One direction of one call: what it needs by the oracle, and what the kernel does; multiplies: matrices."""

    workload: Workload
    direction: str
    operations: int
    moved: int
    work: Work
    found: list[Found]
    multiplies: bool = False

    @property
    def name(self) -> str:
        shape = "×".join(map(str, w.arrays(self.workload)[0]["shape"]))
        window = w.scalars(self.workload).get("window")
        return f"{self.workload['target']} {shape}{f', window {window}' if window else ''}"

    @cached_property
    def products(self) -> float:
        """Operations of the matrix products that the kernel makes."""
        return sum(f.products for f in self.found) + sum(other.products for other in self.work.others)

    def floor(self, card: Card) -> float:
        """Least µs for what the oracle counts."""
        return max(self.moved / card.memory, self.operations / (card.products if self.multiplies else card.plain)) * 1e6

    def least(self, card: Card) -> float:
        """Least µs for what the kernel does, launch by launch; one that may have nothing to do does nothing."""
        total = sum(max(o.moved / card.memory, o.products / card.products) for o in self.work.others)
        for launch, found in zip(self.work.launches, self.found, strict=True):
            if not found.optional:
                total += max(
                    touched(launch, found) / card.memory,
                    found.products / card.products,
                    found.special / card.special,
                )
        return total * 1e6

    @property
    def kernel_moved(self) -> int:
        own = sum(touched(*pair) for pair in zip(self.work.launches, self.found, strict=True) if not pair[1].optional)
        return own + sum(other.moved for other in self.work.others)


def touched(launch: Launch, found: Found) -> int:
    """Bytes of the arguments that a launch reads, and of those that it writes."""
    sizes = {name: x.numel() * x.element_size() for name, x in launch.arguments.items() if isinstance(x, Tensor)}
    return sum(sizes[name] for name in [*found.loaded, *found.stored])


def triton_kernels(catalog: dict[str, Target]) -> list[Kernel]:
    return [kernel for target in catalog.values() for kernel in target.kernels if kernel.language == "triton"]


def rows(pretence: Pretence, catalog: dict[str, Target]) -> Iterator[Row]:
    """Of every target with a Triton kernel, in the order in which a step calls them."""
    kernels = triton_kernels(catalog)
    known: dict[str, Found] = {}

    def look(launch: Launch) -> Found:
        key = launch_key(launch)
        if key not in known:
            known[key] = read(launch, ARCH)
        return known[key]

    for target, calls in pretence.calls(catalog).items():
        for call in calls if any(kernel.target == target for kernel in kernels) else []:
            both = []
            for direction, work in pretence.work(kernels, call).items():
                operations, moved = catalog[target].oracle.cost(call, direction)
                both.append(Row(call, direction, operations, moved, work, [look(one) for one in work.launches]))
            for row in both:
                row.multiplies = any(one.products for one in both)
                yield row


def launch_key(launch: Launch) -> str:
    plain = {
        name: [str(value.dtype), list(value.shape)] if isinstance(value, Tensor) else str(value)
        for name, value in launch.arguments.items()
    }
    return json_sha256([launch.function.__module__, launch.name, plain, str(launch.options), launch.programs])


def _number(value: float) -> str:
    """Three digits; small ones with one place."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _table(head: str, lines: list[str]) -> list[str]:
    return [head, "|".join(["", "---", *["---:"] * (head.count("|") - 2), ""]), *lines]


def arithmetic(found: list[Row]) -> list[str]:
    """The page's first part: needs no compiler but Triton's front end."""
    needed, done, small = [], [], []
    for row in found:
        about = f"{row.name} | {row.direction}"
        launches = len(row.work.launches), len(row.work.others)
        if row.moved < SMALL:
            small.append(f"| {about} | {row.workload['calls_per_step']:g} | {launches[0]} | {launches[1]} |")
            continue
        floors = " | ".join(_number(row.floor(card)) for card in CARDS)
        work = f"{row.moved / 1e6:,.0f} | {row.operations / 1e9:,.2f}"
        needed.append(f"| {about} | {row.workload['calls_per_step']:g} | {work} | {floors} |")
        special = sum(f.special for f in row.found if not f.optional)
        does = f"{row.kernel_moved / 1e6:,.0f} | {row.products / 1e9:,.1f} | {special / 1e6:,.1f}"
        times = " | ".join(
            f"{_number(row.least(card))} | {row.least(card) / row.floor(card):.2f}" for card in (SXM, H200)
        )
        done.append(f"| {about} | {launches[0]} | {launches[1]} | {does} | {times} |")
    cards = " | ".join(card.name for card in CARDS)
    stated = [
        f"| {c.name} | " + " | ".join(f"{x / 1e12:.2f}" for x in (c.memory, c.products, c.plain, c.special)) + " |"
        for c in CARDS
    ]
    return [
        "## Ceilings",
        "",
        CEILINGS,
        "",
        *_table("| | TB/s | bf16 products, TFLOP/s | float32, TFLOP/s | special functions, T/s |", stated),
        "",
        "## What each call needs",
        "",
        NEEDS,
        "",
        *_table(f"| call | | per step | MB | GFLOP | {cards} |", needed),
        "",
        "## What the kernels do",
        "",
        DOES,
        "",
        *_table("| call | | Triton | others | MB | GFLOP | special, M | H100 SXM | × | H200 | × |", done),
        "",
        "## Calls that are launches and nothing else",
        "",
        *_table("| call | | per step | Triton | others |", small),
        "",
    ]


def code(found: list[Row]) -> list[str]:
    """The page's second part: what the compiler makes of the launches."""
    done: set[str] = set()
    lines = []
    for row in found:
        for launch, one in zip(row.work.launches, row.found, strict=True):
            result = compile_launch(launch, ARCH, triton, done) if row.moved >= SMALL else None
            if result is not None:
                lines.append(_code_line(row.workload["target"], launch, one, result))
    head = "| launch | registers | shared, KB | warps | loads | stores | instructions | µs | memory, µs | products |"
    return ["## What the compiler makes of them", "", CODE, "", *_table(head, lines), ""]


def _code_line(target: str, launch: Launch, found: Found, result: CompiledKernel) -> str:
    warps = int(launch.options.get("num_warps", 4))
    threads = 32 * warps
    by_registers = REGISTERS // (-(-result.registers // 8) * 8 * threads)
    by_memory = SHARED_BYTES // (result.shared_bytes + RESERVED_BYTES)
    resident = min(by_registers, by_memory, WARPS // warps, 32) * warps
    constants = {n: v for n, v in result.config.items() if not n.startswith("num_") and isinstance(v, int)}
    words = " ".join(f"{name}={value:d}" for name, value in constants.items())
    issued = result.instructions * threads * math.prod(launch.programs) / SXM.instructions * 1e6
    cells = [
        f"{target} `{launch.name}` {words} {warps} warps",
        f"{result.registers}{f', spills {result.spill_bytes}' if result.spill_bytes else ''}",
        f"{result.shared_bytes / 1024:.1f}",
        str(resident),
        _widths(result.load_widths),
        _widths(result.store_widths),
        str(result.instructions),
        "" if found.loops else _number(issued),
        _number(touched(launch, found) / SXM.memory * 1e6),
        " ".join(result.tensor_core),
    ]
    return f"| {' | '.join(cells)} |"


def _widths(widths: dict[str, int]) -> str:
    return ", ".join(f"{count} of {width}" for width, count in sorted(widths.items(), key=lambda one: -int(one[0])))


def stamp(catalog: dict[str, Target]) -> str:
    """Says which kernels the compiled part of the page is of."""
    files = [Path(triton_device.__file__), *(kernel.path for kernel in triton_kernels(catalog))]
    return f"compiled from kernels {json_sha256([file_sha256(path) for path in files])[:16]}."


def page(pretence: Pretence, catalog: dict[str, Target], compiled: bool = True) -> str:
    """The page; without `compiled` up to what the compiler makes of the launches."""
    found = list(rows(pretence, catalog))
    lines = [HEAD, *arithmetic(found)]
    if compiled:
        lines += [*code(found), "## What they keep from being fused", "", FUSION, "", *fusion(triton_kernels(catalog))]
        lines += ["", f"Triton {triton.__version__}; {stamp(catalog)}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make docs/gpu-floors.md.")
    parser.add_argument("--write", type=Path, help=f"file to write [default: print; the page is {PAGE}]")
    options = parser.parse_args()
    show(page(pretend(), load_catalog(Root())), options.write)


if __name__ == "__main__":
    main()
