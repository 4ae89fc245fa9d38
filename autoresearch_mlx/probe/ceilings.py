"""Job `ceilings`: what this machine can do at most.

Both ceilings are bounds for honest kernels, so each is the best of many repetitions: noise only ever takes speed away.
On the CPU build NumPy measures too: MLX's own products there are slow, and a ceiling is the machine's, not MLX's.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from autoresearch_mlx.memory import on_gpu
from autoresearch_mlx.probe import Report
from autoresearch_mlx.process import prepare_process
from autoresearch_trainer.jobs.machine import CeilingsAnswer, CeilingsArgs

# Bytes moved per call (read + written), from sets that fit the inner caches to ones that fit none.
MOVED_BYTES = tuple((256 << 10) << (2 * step) for step in range(6)) + (512 << 20,)
MATMUL_SIZES, GPU_MATMUL_SIZES = (256, 512), (2048, 4096)
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
# A call that is over sooner says more of how it is started than of the device: several are chained.
SHORT_SECONDS, LONGEST_CHAIN = 2e-3, 32

SECONDS_PER_PATTERN = 0.06
SECONDS_PER_MATMUL = 0.2


def run(args: CeilingsArgs, run_dir: Path, report: Report) -> CeilingsAnswer:
    """Measure; a few seconds on two cores."""
    threads = prepare_process()["threads"]
    sizes = args.moved_bytes or MOVED_BYTES
    patterns: dict[str, list[list[float]]] = {}
    for number, moved in enumerate(sizes):
        report({"stage": "memory bandwidth", "done": number, "total": len(sizes)})
        for name, seconds in memory_seconds(moved).items():
            patterns.setdefault(name, []).append([moved, round(moved / seconds / 1e9, 2)])
    best = [[moved, max(rows[number][1] for rows in patterns.values())] for number, moved in enumerate(sizes)]
    rates: dict[str, float] = {}
    for number, name in enumerate(DTYPES):
        report({"stage": "matrix products", "done": number, "total": len(DTYPES)})
        rates[name] = round(matmul_rate(name, args.matmul_sizes) / 1e9, 1)
    return CeilingsAnswer(copy_gb_s=best, patterns=patterns, matmul_gflop_s=rates, threads=threads)


def memory_seconds(moved: int) -> dict[str, float]:
    """Best time in s of each pattern when it moves `moved` bytes: copy (half read, half written) and read."""
    whole = mx.ones(max(1, moved // 4))
    half = mx.ones(max(1, moved // 8))
    mx.eval(whole, half)
    found = {
        "copy": best_seconds(mx.negative, half, SECONDS_PER_PATTERN),
        "read": best_seconds(lambda x: x.sum(), whole, SECONDS_PER_PATTERN),
    }
    if not on_gpu():
        front, back = np.ones(max(1, moved // 8), np.float32), np.zeros(max(1, moved // 8), np.float32)
        found["copy by NumPy"] = best_host_seconds(lambda: np.copyto(back, front), SECONDS_PER_PATTERN)
    return found


def matmul_rate(name: str, sizes: Sequence[int] | None = None) -> float:
    """Highest rate of a square matrix product in FLOP/s, 2·n³ FLOP each."""
    best = 0.0
    for size in sizes or (GPU_MATMUL_SIZES if on_gpu() else MATMUL_SIZES):
        a = mx.random.normal((size, size), key=mx.random.key(0)).astype(DTYPES[name])
        mx.eval(a)
        best = max(best, 2 * size**3 / best_seconds(lambda x: x @ x, a, SECONDS_PER_MATMUL))
    if name == "float32" and not on_gpu():
        square = np.ones((1024, 1024), np.float32)
        out = np.empty_like(square)
        seconds = best_host_seconds(lambda: np.matmul(square, square, out=out), SECONDS_PER_MATMUL)
        best = max(best, 2 * 1024**3 / seconds)
    return best


def best_seconds(call: Callable[[mx.array], mx.array], x: mx.array, seconds: float) -> float:
    """Shortest time of one call in s, out of at least three samples; the first is not counted."""
    mx.eval(call(x))
    started = time.perf_counter()
    mx.eval(call(x))
    once = max(time.perf_counter() - started, 1e-9)
    length = max(1, min(LONGEST_CHAIN, int(SHORT_SECONDS / once)))

    def chain() -> None:
        results, current = [], x
        for _ in range(length):
            results.append(call(current))
            # The next call waits for this one, without any work between them.
            current = mx.depends([x], [results[-1]])[0]
        mx.eval(results)

    return best_host_seconds(chain, seconds) / length


def best_host_seconds(call: Callable[[], object], seconds: float) -> float:
    """Shortest time of a call that ends when its work is done."""
    call()
    end = time.perf_counter() + seconds
    best, count = float("inf"), 0
    while count < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
        count += 1
    return best
