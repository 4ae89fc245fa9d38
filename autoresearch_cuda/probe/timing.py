"""Job `time`: several kernels of one target timed against each other in one process.

In a round every workload is visited once, in random order, and there the arms in random order and then in reverse
(A B C C B A), so that drift and slow disturbances fall on all arms alike. Every single call gets fresh contents at the
same addresses, outside the timed window. The clock is bound before any kernel is loaded. Raw times are returned; what
they mean is decided elsewhere.
"""

import gc
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from autoresearch_cuda.probe import Report, asides, native_code
from autoresearch_cuda.probe.gpu_stopwatch import GpuStopwatch
from autoresearch_cuda.probe.observers import ForeignLoad, Keeper, peak_bytes
from autoresearch_cuda.probe.stopwatch import Call, Stopwatch
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.seam import Kernel, KernelFile, load_kernel

# A sample of short calls is at least this long and made of several of them: the first after another kernel is slower.
SAMPLE_SECONDS, SHORT_SECONDS = 1e-3, 5e-3
LEAST_CALLS, MOST_CALLS = 3, 16
# Warm-up: this many calls after the first, one where a call is slow, and more until one was not disturbed (of slow ones
# fewer: long calls hardly ever are).
WARM_CALLS, MOST_WARM_CALLS, SLOW_WARM_CALLS, SLOW_SECONDS = 5, 15, 4, 0.05
# Calls that the system disturbed are repeated, short ones this often at least and all until a sample takes this long.
RETRIES, RETRY_SECONDS = 8, 0.02
CONTENT_NUMBERS = 1 << 20
# torch.compile makes a version per shape and arm, and beyond its limit runs uncompiled without a word.
MOST_COMPILES = 256


def run(args: dict[str, Any], run_dir: Path, report: Report) -> dict[str, Any]:
    """Time the arms on the workloads.

    args: "arms": [kernel, ...], the first being the reference, with "compiled": true for one that goes through
    torch.compile; "inputs": path of a safetensors file with
    "<workload id>/<argument>"; "workloads": see `Call`; "seconds" to measure for; "least_rounds"; "most_rounds";
    "seed"; "calls": per workload how many make a sample at least, null = found out here alone; "checked": outputs kept
    per arm and workload; "memory": whether to measure peak memory; "device".

    Returns "samples" (round, visit, arm, workload, [forward, backward]): nested lists of ns per call, each the mean
    over "calls" (per workload) calls; "clean" (round, visit, arm, workload): whether these were calls that nothing
    interrupted; "disturbed": per arm how often the system interfered (see `Disturbed`); "orders":
    per round [[workload, [arm, ...]], ...] as visited; "span_seconds" of all rounds together, "timed_seconds" inside
    windows; "foreign_load" per round; "first_call_ms" and "peak_bytes" per arm and workload; "configurations" of tuned
    Triton kernels; "timer": how the times were taken; on a GPU also "gpu": what `asides.look` and
    `GpuStopwatch.account` give. Kept outputs lie in run_dir/outputs.safetensors under the names of `Keeper.tensors`.
    Raises:
        KernelError: a kernel does not load, or is not the one that was named.
    """
    device = torch.device(args.get("device", "cpu"))
    watch = GpuStopwatch(device) if device.type == "cuda" else Stopwatch()
    settings = prepare_process()
    rng = random.Random(args["seed"])
    torch.manual_seed(rng.randrange(1 << 31))
    calls = _calls(args, device)
    arms = [load_arm(kernel) for kernel in args["arms"]]
    race = Race(watch, arms, calls, rng, Keeper(args["checked"], rng))

    report({"stage": "warm-up"})
    first_ms = race.warm_up(args["calls"])
    gc.collect()
    gc.freeze()
    gc.disable()
    report({"stage": "measure"})
    began = watch.clock()
    while race.rounds < args["least_rounds"] or (
        race.rounds < args["most_rounds"] and watch.clock() - began < args["seconds"] * 1e9
    ):
        race.round()
        report({"stage": "round", "done": race.rounds, "seconds": (watch.clock() - began) / 1e9})
    span = (watch.clock() - began) / 1e9
    report({"stage": "measured"})
    gc.enable()
    gpu = {**asides.look(watch, arms, calls, rng), **watch.account()} if isinstance(watch, GpuStopwatch) else None
    save_file(race.keeper.tensors(race.repeat, reference=0), str(run_dir / "outputs.safetensors"))
    return {
        "samples": race.samples,
        "clean": race.clean,
        "orders": race.orders,
        "foreign_load": race.foreign_load,
        "calls": race.counts,
        "disturbed": [asdict(counts) for counts in race.disturbed],
        "span_seconds": span,
        "timed_seconds": race.timed_ns / 1e9,
        "window_ns": watch.window_ns(),
        "timer": watch.settings(),
        "gpu": gpu,
        "first_call_ms": first_ms,
        "peak_bytes": _memory(race, device) if args["memory"] else None,
        "load_average": list(os.getloadavg()),
        "process": settings,
        "configurations": native_code.configurations(),
    }


@dataclass
class Disturbed:
    """Of one arm: `calls` made in all, `aside` set aside because the system disturbed them, `samples` taken, and
    `unclean` ones that hold nothing but disturbed calls."""

    calls: int = 0
    aside: int = 0
    samples: int = 0
    unclean: int = 0


class Race:
    """The arms and the calls that they are timed on, and what was measured so far."""

    def __init__(
        self, watch: Stopwatch | GpuStopwatch, arms: list[Kernel], calls: list[Call], rng: random.Random, keeper: Keeper
    ) -> None:
        self.watch, self.arms, self.calls, self.rng, self.keeper = watch, arms, calls, rng, keeper
        self.counts: list[int] = []
        self.tries: list[int] = []
        self.samples: list[list[list[list[list[float]]]]] = []
        self.clean: list[list[list[list[bool]]]] = []
        self.orders: list[list[list[Any]]] = []
        self.foreign_load: list[float | None] = []
        self.disturbed = [Disturbed() for _ in arms]
        self.timed_ns = 0
        self._load = ForeignLoad()

    @property
    def rounds(self) -> int:
        return len(self.samples)

    def warm_up(self, counts: list[int] | None) -> list[list[float]]:
        """Run every arm a few times on every workload and fix how many calls make a sample: by the fastest arm's time,
        and at least as many as given. Returns the first calls' time in ms (arm, workload), compilation included."""
        first = [[0.0] * len(self.calls) for _ in self.arms]
        for place, call in enumerate(self.calls):
            fastest = float("inf")
            for number, arm in enumerate(self.arms):
                first[number][place] = round(self.watch.measure(arm, call, 0).ns / 1e6, 4)
                fastest = min(fastest, self._warm(arm, call))
            short = fastest < SHORT_SECONDS
            needed = min(MOST_CALLS, round(SAMPLE_SECONDS / max(fastest, 1e-9)))
            self.counts.append(max(counts[place] if counts else 1, LEAST_CALLS if short else 1, needed))
            self.tries.append(self.counts[place] + (RETRIES if short else 0))
        return first

    def _warm(self, arm: Kernel, call: Call) -> float:
        """Seconds of the fastest of some calls. The first call may have compiled something, so whether a kernel is slow
        shows in the second; and among calls that were all disturbed a short one cannot be told from a slow one."""
        fastest, clean, done = float("inf"), False, 0
        while done < WARM_CALLS or (not clean and done < MOST_WARM_CALLS):
            timing = self.watch.measure(arm, call, 1 + done)
            fastest, clean, done = min(fastest, timing.ns / 1e9), clean or not timing.disturbed, done + 1
            if fastest > SLOW_SECONDS and (clean or done >= SLOW_WARM_CALLS):
                break
        return fastest

    def round(self) -> None:
        """Visit every workload once, with each arm twice there; within a visit all arms see the same contents."""
        samples = [[[[0.0, 0.0] for _ in self.calls] for _ in self.arms] for _ in range(2)]
        clean = [[[False for _ in self.calls] for _ in self.arms] for _ in range(2)]
        orders = []
        for place in self.rng.sample(range(len(self.calls)), len(self.calls)):
            order = self.rng.sample(range(len(self.arms)), len(self.arms))
            orders.append([place, order])
            for visit, sequence in enumerate((order, order[::-1])):
                content = self.rng.randrange(CONTENT_NUMBERS)
                for arm in sequence:
                    samples[visit][arm][place], clean[visit][arm][place] = self._sample(arm, place, content)
        self.samples.append(samples)
        self.clean.append(clean)
        self.orders.append(orders)
        self.foreign_load.append(self._load.since_last())

    def _sample(self, arm: int, place: int, content: int) -> tuple[list[float], bool]:
        """([forward, backward] in ns per call, True): the mean over as many undisturbed calls as make a sample, or as
        there were before the time for another try was over; over all calls, and False, where each was disturbed."""
        count, call, function, counts = self.counts[place], self.calls[place], self.arms[arm], self.disturbed[arm]
        slot = self.keeper.slot(arm, place)
        kept = self.rng.randrange(count) if slot is not None else None
        clean: list[tuple[int, int]] = []
        rough: list[tuple[int, int]] = []
        spent = step = 0
        while len(clean) < count and (step < self.tries[place] or spent < RETRY_SECONDS * 1e9):
            timing = self.watch.measure(function, call, content + step)
            (rough if timing.disturbed else clean).append((timing.forward_ns, timing.backward_ns))
            if step == kept:
                self.keeper.keep(slot, arm, place, content + step, timing.outputs)
            spent += timing.ns
            step += 1
        self.timed_ns += spent
        counts.calls += step
        counts.aside += len(rough) if clean else 0
        counts.samples += 1
        counts.unclean += not clean
        used = clean or rough
        return [sum(times) / len(used) for times in zip(*used, strict=True)], bool(clean)

    def repeat(self, arm: int, place: int, content: int) -> list[torch.Tensor]:
        """Outputs and gradients of one more call, not counted."""
        return self.watch.measure(self.arms[arm], self.calls[place], content).outputs


def load_arm(kernel: dict[str, Any]) -> Kernel:
    """The arm's function; through torch.compile, one graph per shape, where it asks for that."""
    function = load_kernel(KernelFile.of(kernel))
    if not kernel.get("compiled"):
        return function
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MOST_COMPILES
    torch._inductor.config.compile_threads = 1  # workers would still be there while others are timed
    return torch.compile(function, dynamic=False)


def _calls(args: dict[str, Any], device: torch.device) -> list[Call]:
    contents = load_file(args["inputs"])
    found = []
    for workload in args["workloads"]:
        prefix = workload["id"] + "/"
        own = {name.removeprefix(prefix): value for name, value in contents.items() if name.startswith(prefix)}
        found.append(Call(workload, own, device))
    return found


def _memory(race: Race, device: torch.device) -> list[list[int | None]]:
    """Peak bytes per arm and workload, outputs and gradients included."""
    arms, places = range(len(race.arms)), range(len(race.calls))
    return [[peak_bytes(lambda a=arm, p=place: race.repeat(a, p, 0), device) for place in places] for arm in arms]
