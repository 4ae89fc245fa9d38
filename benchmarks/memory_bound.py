"""The C++ kernels that only move memory, at sizes that no cache holds, beside a copy of as many bytes and Inductor.

    python benchmarks/memory_bound.py

A kernel has to read its arguments and write its results once (the oracle's `cost` counts these bytes); a copy that
reads half of so many bytes and writes the other half shows what this machine needs for that. Copy, kernel and the
baseline through torch.compile take turns in every round; shares and ratios are medians over the rounds of ratios within
one round. Backward is timed through autograd, which at these sizes costs nothing beside it. Thread counts and allocator
are the trainer's, and the process has used more memory before than any call needs: fresh pages would cost more than the
work.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from nano_calls import CAP, EPS, MEAN, VOCAB, adam, array

from autoresearch_common.workload import Spec, Workload
from autoresearch_cuda.kernel_files import installed_kernel
from autoresearch_cuda.probe.compiled_call import CompiledCall
from autoresearch_cuda.probe.context import tensors_of
from autoresearch_cuda.process import prepare_process
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_trainer.kernel_files import Kernel, load_kernel
from autoresearch_trainer.process import cpu_name

# A stream of 64 sequences of 2048 tokens, width 256: 64 MiB in bfloat16.
B, T, C, HEADS, WIDTH = 64, 2048, 256, 2, 128
ROWS = 4096  # of logits
LEAST_ROUNDS = 3
NAMES = ("copy", "kernel", "inductor")
USED_BEFORE = 3 << 29  # bytes: less than from where on the allocator gives memory back

LAMBDAS = [array(name, (), "float32", grad=True) for name in ("resid_lambda", "x0_lambda")]
ANGLES = [array(name, (1, T, 1, WIDTH // 2)) for name in ("cos", "sin")]


def stream(name: str, width: int = C) -> Spec:
    return array(name, (B, T, width), grad=True)


def heads(name: str) -> Spec:
    return array(name, (B, T, HEADS, WIDTH), grad=True)


CALLS: dict[str, list[Spec]] = {
    "rms_norm": [stream("x"), EPS],
    "rope": [heads("x"), *ANGLES],
    "relu_squared": [stream("x", 2 * C)],
    "value_gate": [heads("v"), heads("ve"), stream("gate", HEADS)],
    "residual_mix": [stream("x"), stream("x0"), *LAMBDAS],
    "qk_prelude": [heads("q"), heads("k"), *ANGLES, EPS],
    "residual_norm": [stream("x"), stream("x0"), *LAMBDAS, EPS],
    "softcap_cross_entropy": [array("logits", (ROWS, VOCAB), grad=True), array("targets", (ROWS,), "int64"), CAP, MEAN],
    "adamw_update": adam((65536, C), "float32"),
}


class Arm:
    """One implementation of a target with its arguments; `forward` and `backward` give seconds."""

    def __init__(self, function: Kernel, specs: Sequence[Spec]) -> None:
        self.function = function
        self.arguments = [_value(spec) for spec in specs]
        self.leaves = [each for each in self.arguments if isinstance(each, torch.Tensor) and each.requires_grad]
        self.results: list[torch.Tensor] = []
        self.cotangents: list[torch.Tensor] = []

    def forward(self) -> float:
        self.results = []
        started = time.perf_counter()
        found = self.function(*self.arguments)
        seconds = time.perf_counter() - started
        self.results = [each for each in tensors_of(found) if each.requires_grad]
        return seconds

    def backward(self) -> float:
        self.cotangents = self.cotangents or [torch.ones_like(each) for each in self.results]
        started = time.perf_counter()
        gradients = torch.autograd.grad(self.results, self.leaves, self.cotangents)
        seconds = time.perf_counter() - started
        del gradients
        return seconds


def _value(spec: Spec) -> Any:
    if spec["kind"] != "array":
        return spec["value"]
    dtype = getattr(torch, spec["dtype"])
    if not dtype.is_floating_point:
        return torch.randint(0, VOCAB, spec["shape"], dtype=dtype)
    # Second moments must not be negative; for the others that makes no difference.
    return torch.rand(spec["shape"]).to(dtype).requires_grad_(spec["grad"])


class Copy:
    """A copy that reads and writes so many bytes together."""

    def __init__(self, moved: float) -> None:
        self.source = torch.ones(int(moved) // 2, dtype=torch.uint8)
        self.to = torch.empty_like(self.source)

    def __call__(self) -> float:
        started = time.perf_counter()
        self.to.copy_(self.source)
        return time.perf_counter() - started


def measure(target: str, rounds: int, order: random.Random) -> list[dict[str, Any]]:
    """A row for each direction, and for both together: bytes, GB/s of the copy, the kernel's share of it, and
    Inductor's time over its."""
    specs, oracle = CALLS[target], load_catalog(Root())[target].oracle
    trained = any(spec["kind"] == "array" and spec["grad"] for spec in specs)
    directions = ("forward", "backward") if trained else ("forward",)
    call: Workload = {"target": target, "args": specs, "phase": "forward", "calls_per_step": 1.0, "sample": None}
    moved = {direction: oracle.cost(call, direction)[1] for direction in directions}
    arms = {
        "kernel": Arm(load_kernel(installed_kernel(target, "cpp_fused")), specs),
        "inductor": Arm(CompiledCall(load_kernel(installed_kernel(target, "torch_eager"))), specs),
    }
    copies = {direction: Copy(moved[direction]) for direction in directions}
    times = {name: {direction: list[float]() for direction in directions} for name in NAMES}
    for number in range(rounds + 1):  # the first is a warm-up
        for name in order.sample(NAMES, 3):
            for direction in directions:
                took: Callable[[], float] = copies[direction] if name == "copy" else getattr(arms[name], direction)
                seconds = took()
                if number:
                    times[name][direction].append(seconds)
    if trained:
        moved["both"] = sum(moved.values())
        for each in times.values():
            each["both"] = [sum(pair) for pair in zip(*each.values(), strict=True)]
    rows = []
    for direction, size in moved.items():
        copy, kernel, inductor = (times[name][direction] for name in NAMES)
        rows.append(
            {
                "target": target,
                "direction": direction,
                "megabytes": size / 1e6,
                "copy_gb_s": size / 1e9 / median(copy),
                "kernel_ms": 1e3 * median(kernel),
                "share": median(one / other for one, other in zip(copy, kernel, strict=True)),
                "over_inductor": median(one / other for one, other in zip(inductor, kernel, strict=True)),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| | MB | copy, GB/s | kernel, ms | share of a copy | Inductor takes |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| `{row['target']}` {row['direction']} | {row['megabytes']:.0f} | {row['copy_gb_s']:.1f} | "
            f"{row['kernel_ms']:.1f} | {row['share']:.0%} | ×{row['over_inductor']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each target (default: 25)")
    parser.add_argument("--targets", default=",".join(CALLS), help="which, by commas (default: all)")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    asked = parser.parse_args()
    targets = asked.targets.split(",")
    if asked.rounds < LEAST_ROUNDS or not set(targets) <= set(CALLS):
        parser.error(f"--rounds is at least {LEAST_ROUNDS}, and --targets are among {', '.join(CALLS)}")
    process = prepare_process()
    torch.ones(USED_BEFORE, dtype=torch.uint8)
    print(f"{cpu_name()}, {process['threads']} threads, torch {torch.__version__}, {asked.rounds} rounds\n")
    rows = [row for target in targets for row in measure(target, asked.rounds, random.Random(0))]
    print(table(rows))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
