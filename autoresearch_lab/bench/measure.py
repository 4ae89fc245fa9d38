"""One process of a bench: runs the job `time`, holds its clock against this process's own, and checks its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from autoresearch_lab.bench.checks import check_clock, check_outputs
from autoresearch_lab.bench.gpu import check_events
from autoresearch_lab.bench.samples import Process
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import Engine
from autoresearch_lab.jobs import call
from autoresearch_lab.sandbox.arrays import read_arrays
from autoresearch_lab.sandbox.limits import GIB, Limits
from autoresearch_lab.sandbox.protocol import not_enforced

LEAST_ROUNDS = 3
MOST_ROUNDS = 200
# Outputs of so many timed calls are kept per process, arm and workload.
CHECKED = 2
OUTPUTS_BYTES = 256 << 20
# A process that says nothing for so long hangs; one that goes on may take long, where a call takes seconds.
QUIET_SECONDS, MOST_PROCESS_SECONDS = 300.0, 3600.0


@dataclass(frozen=True)
class Arm:
    """A kernel under measurement. role: baseline, control (the baseline once more), library or candidate.

    compiled: it goes through torch.compile first.
    """

    role: str
    kernel: Kernel
    compiled: bool = False

    @property
    def name(self) -> str:
        return f"{self.kernel.name} (compiled)" if self.compiled else self.kernel.name

    def plain(self) -> dict[str, str]:
        return {"role": self.role, "name": self.name, "sha256": self.kernel.sha256}

    def job(self) -> dict[str, Any]:
        """As the job `time` takes it."""
        return {**self.kernel.plain(), **({"compiled": True} if self.compiled else {})}


def measure(
    engine: Engine,
    target: Target,
    arms: list[Arm],
    workloads: list[dict[str, Any]],
    inputs: Path,
    *,
    run_dir: Path,
    seconds: float,
    seed: int,
    calls: list[int] | None,
    memory: bool,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> Process:
    """Time the arms in a fresh process for about `seconds`, start-up not counted. calls: how many make a sample at
    least, per workload, so that all processes do the same; None = the process finds out.

    Raises:
        LabError: a kernel cannot be loaded.
        LabFailure: the job failed, its clock disagrees with this one's, or outputs of timed calls are wrong.
    """
    marks: dict[str, float] = {}
    unenforced: list[str] = []

    def listen(message: dict[str, Any]) -> None:
        if "unenforced" in message:
            unenforced.extend(not_enforced(message))
            return
        marks.setdefault(str(message.get("stage")), time.perf_counter())
        if on_progress is not None:
            on_progress(message)

    args = {
        "arms": [arm.job() for arm in arms],
        "inputs": str(inputs),
        "workloads": workloads,
        "seconds": seconds,
        "least_rounds": LEAST_ROUNDS,
        "most_rounds": MOST_ROUNDS,
        "seed": seed,
        "calls": calls,
        "checked": CHECKED,
        "memory": memory,
    }
    raw = call(engine, "time", args, run_dir=run_dir, limits=limits(engine, arms, inputs, seconds), on_progress=listen)
    check_clock(raw, marks)
    check_events(raw, [f"{arm.role} {arm.name}" for arm in arms])
    outputs = read_arrays(run_dir / "outputs.safetensors", OUTPUTS_BYTES)
    (run_dir / "outputs.safetensors").unlink()
    check_outputs(outputs, target, [f"{arm.role} {arm.name}" for arm in arms], workloads)
    return Process({**raw, "seed": seed, "unenforced": unenforced})


def limits(engine: Engine, arms: list[Arm], inputs: Path, seconds: float) -> Limits:
    """What a timing process may use. It speaks after every arm that is warm and after every round, so what ends a hang
    is its silence. With a GPU the address space says nothing about memory and stays unlimited."""
    folders = {str(arm.kernel.path.parent) for arm in arms}
    return Limits(
        seconds=MOST_PROCESS_SECONDS,
        quiet_seconds=QUIET_SECONDS + seconds,
        memory_bytes=psutil.virtual_memory().total + 16 * GIB if engine.device == "cpu" else None,
        file_bytes=GIB,
        confined=True,
        readable=(*sorted(folders), str(inputs)),
        gpu=engine.device == "cuda",
    )
