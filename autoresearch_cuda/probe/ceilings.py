"""Job `ceilings`: what this machine can do at most, measured with the engine's own operations.

Both ceilings are bounds for honest kernels, so each is the best of many repetitions: noise only ever takes speed away.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import torch

from autoresearch_cuda.probe import Report
from autoresearch_cuda.probe.stream import CudaStream, Stream
from autoresearch_cuda.process import prepare_process
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.machine import CeilingsAnswer, CeilingsArgs

# Bytes moved per call (read + written), from sets that fit the inner caches to ones that fit none.
MOVED_BYTES = tuple((256 << 10) << (2 * step) for step in range(6)) + (512 << 20,)
MATMUL_SIZES = (1024, 2048)
GPU_MATMUL_SIZES = (4096, 8192)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A type that the hardware only emulates runs at a hundredth of float32 and is no ceiling of anything. A small product
# tells; sizes that would take long by what the smaller ones took are left out.
TRIAL_SIZE = 128
EMULATED = 0.1
LONGEST_MATMUL = 1.0
# What the host may take to queue a handful of calls on a GPU: first guess, and the most that is tried.
BACKLOG_NS, MOST_BACKLOG_NS = 300_000.0, 10_000_000.0

SECONDS_PER_PATTERN = 0.06
SECONDS_PER_TRIAL = 0.03
SECONDS_PER_MATMUL = 0.3


def run(args: CeilingsArgs, run_dir: Path, report: Report) -> CeilingsAnswer:
    """Measure with all threads; under 6 s on two cores. Patterns are "copy", "update" and "read". A dtype that the
    hardware does not multiply natively is left out: unknown, not slow.

    Raises:
        ConfigError: the device is not there.
    """
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("PyTorch reaches no CUDA device (no GPU, no driver, or a CPU build of torch)")
    threads = prepare_process()["threads"]
    sizes = args.moved_bytes or MOVED_BYTES
    patterns: dict[str, list[list[float]]] = {"copy": [], "update": [], "read": []}
    for number, moved in enumerate(sizes):
        report({"stage": "memory bandwidth", "done": number, "total": len(sizes)})
        for name, seconds in memory_seconds(moved, device).items():
            patterns[name].append([moved, round(moved / seconds / 1e9, 2)])
    best = [[moved, max(rows[number][1] for rows in patterns.values())] for number, moved in enumerate(sizes)]
    rates: dict[str, float] = {}
    for number, (name, dtype) in enumerate(DTYPES.items()):
        report({"stage": "matrix products", "done": number, "total": len(DTYPES)})
        rate = matmul_rate(dtype, device, args.matmul_sizes)
        if rate is not None:
            rates[name] = round(rate / 1e9, 1)
    return CeilingsAnswer(copy_gb_s=best, patterns=patterns, matmul_gflop_s=rates, threads=threads)


def memory_seconds(moved: int, device: torch.device) -> dict[str, float]:
    """Best time in s of each pattern when it moves `moved` bytes: copy (half read, half written), update in place (the
    same, in one array, which avoids fetching what is only written) and read.

    The float32 arrays are written once beforehand, so that no page of them is new.
    """
    source = torch.ones(moved // 4, device=device)
    front, back = source[: moved // 8], source[moved // 8 : moved // 8 * 2]
    return {
        "copy": best_seconds(lambda: back.copy_(front), device, SECONDS_PER_PATTERN),
        "update": best_seconds(lambda: front.mul_(1.0), device, SECONDS_PER_PATTERN),
        "read": best_seconds(lambda: source.sum(), device, SECONDS_PER_PATTERN),
    }


def matmul_rate(dtype: torch.dtype, device: torch.device, sizes: Sequence[int] | None = None) -> float | None:
    """Highest rate of a square matrix product in FLOP/s, 2·n³ FLOP each; None where the type is emulated."""

    def rate(size: int, dtype: torch.dtype, seconds: float) -> float:
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        out = torch.empty(size, size, device=device, dtype=dtype)
        return 2 * size**3 / best_seconds(lambda: torch.mm(a, b, out=out), device, seconds)

    with _one_thread():
        trial = rate(TRIAL_SIZE, dtype, SECONDS_PER_TRIAL)
        if device.type == "cpu" and trial < EMULATED * rate(TRIAL_SIZE, torch.float32, SECONDS_PER_TRIAL):
            return None
    best = 0.0
    for size in sizes or (GPU_MATMUL_SIZES if device.type == "cuda" else MATMUL_SIZES):
        if 2 * size**3 < LONGEST_MATMUL * max(trial, best):
            best = max(best, rate(size, dtype, SECONDS_PER_MATMUL))
    return best or None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Short calls of several threads measure how busy the machine is, not what it can do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def best_seconds(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Shortest time of one call in s, out of at least three and for about `seconds`; the first call is not counted."""
    call()
    timed = partial(_gpu_seconds, stream=_stream(device)) if device.type == "cuda" else _cpu_seconds
    end = time.perf_counter() + seconds
    best, count = float("inf"), 0
    while count < 3 or time.perf_counter() < end:
        best = min(best, timed(call))
        count += 1
    return best


@cache
def _stream(device: torch.device) -> Stream:
    return CudaStream(device)


def _cpu_seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _gpu_seconds(call: Callable[[], object], stream: Stream, repeats: int = 10) -> float:
    """Per call, over calls queued back to back behind a backlog, so that launching them costs nothing: small amounts
    are moved faster than the host can ask for it. Where the device came to the first before the last was queued, once
    more behind a longer one; at the longest what was measured counts, which may then be too slow."""
    backlog = BACKLOG_NS
    while True:
        stream.hold(backlog)
        start = stream.mark()
        for _ in range(repeats):
            call()
        end = stream.mark()
        late = stream.reached(start)
        stream.wait()
        if not late or 2 * backlog > MOST_BACKLOG_NS:
            return stream.between(start, end) / 1e9 / repeats
        backlog *= 2
