"""One process of a bench: runs the job `time`, holds its clock against this process's own, and checks its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from autoresearch_common.arrays import read_arrays
from autoresearch_lab.bench.checks import check_clock, check_outputs, check_shape
from autoresearch_lab.bench.gpu import check_events
from autoresearch_lab.bench.samples import Process
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.jobs import call
from autoresearch_lab.results.bench import ArmId
from autoresearch_lab.sandbox.compiled import lend
from autoresearch_lab.sandbox.limits import GIB, Limits
from autoresearch_lab.sandbox.protocol import not_enforced
from autoresearch_trainer.jobs import Progress
from autoresearch_trainer.jobs.timing import OUTPUTS, TIME, TimeAnswer, TimeArgs, TimedCall

LEAST_ROUNDS = 3
MOST_ROUNDS = 200
# Outputs of so many timed calls are kept per process, arm and workload.
CHECKED = 2
OUTPUTS_BYTES = 256 << 20
# A process that says nothing for so long hangs; one that goes on may take long, where a call takes seconds.
QUIET_SECONDS, MOST_PROCESS_SECONDS = 300.0, 3600.0


@dataclass(frozen=True)
class Arm:
    """A kernel under measurement. role: baseline, control (the baseline once more), library, standing (what the trainer
    uses now), graph (the candidate within a graph) or candidate.

    compiled: it goes through torch.compile first. parts: what it calls for smaller targets, the baselines elsewhere.
    """

    role: str
    kernel: Kernel
    compiled: bool = False
    parts: Mapping[str, Kernel] = field(default_factory=dict)

    @property
    def name(self) -> str:
        parts = [f"{target}={kernel.name}" for target, kernel in self.parts.items()]
        within = f" with {', '.join(parts)}" if parts else ""
        return f"{self.kernel.name}{within}{' (compiled)' if self.compiled else ''}"

    @property
    def beside(self) -> bool:
        """Whether a bench can do without it: neither the baseline nor what is judged."""
        return self.role in ("library", "standing", "graph")

    def recorded(self) -> ArmId:
        """As records name it."""
        return ArmId(role=self.role, name=self.name, sha256=self.kernel.sha256)


@dataclass(frozen=True)
class TimingBed:
    """What kernels are timed on: a target's calls with their contents in the file `inputs`, the folder in which one
    process after the other runs, and the most seconds and fewest rounds that each may take. kept: what a process
    without a candidate compiled, where there is such a folder (see `sandbox.compiled`); each begins with a copy."""

    engine: Engine
    target: Target
    workloads: list[TimedCall]
    inputs: Path
    run_dir: Path
    most_seconds: float = MOST_PROCESS_SECONDS
    kept: Path | None = None
    least_rounds: int = LEAST_ROUNDS


def measure(
    bed: TimingBed,
    arms: Sequence[Arm],
    *,
    seconds: float,
    seed: int,
    calls: list[int] | None = None,
    memory: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Process:
    """Time the arms in a fresh process for about `seconds`, start-up not counted. calls: how many make a sample at
    least, per workload, so that all processes do the same; None = the process finds out.

    Raises:
        LabError: a kernel cannot be loaded.
        LabFailure: the job failed, its clock disagrees with this one's, or outputs of timed calls are wrong.
    """
    marks: dict[str, float] = {}
    unenforced: list[str] = []
    left: list[str] = []

    def listen(message: Progress) -> None:
        if "unenforced" in message:
            unenforced.extend(not_enforced(message))
            return
        if "left" in message:
            left.extend(message["left"])
            return
        marks.setdefault(str(message.get("stage")), time.perf_counter())
        if on_progress is not None:
            on_progress(message)

    answer = ask(bed, arms, seconds=seconds, seed=seed, calls=calls, memory=memory, on_progress=listen)
    names = [f"{arm.role} {arm.name}" for arm in arms]
    check_shape(answer, len(arms), len(bed.workloads))
    check_clock(answer, marks)
    check_events(answer, names)
    check_outputs(_kept(bed.run_dir / OUTPUTS), bed.target, names, bed.workloads)
    return Process(answer, seed, unenforced, left)


def ask(
    bed: TimingBed,
    arms: Sequence[Arm],
    *,
    seconds: float,
    seed: int,
    calls: list[int] | None = None,
    memory: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> TimeAnswer:
    """What a fresh process answers, unchecked. Raises as `measure`, where the job fails."""
    if bed.kept is not None:
        lend(bed.kept, bed.run_dir)
    args = TimeArgs(
        arms=[arm.kernel.file for arm in arms],
        compiled=[place for place, arm in enumerate(arms) if arm.compiled],
        standing=[place for place, arm in enumerate(arms) if arm.role == "standing"],
        parts={target: kernel.file for arm in arms for target, kernel in arm.parts.items()},
        inputs=str(bed.inputs),
        workloads=bed.workloads,
        seconds=seconds,
        least_rounds=bed.least_rounds,
        most_rounds=MOST_ROUNDS,
        seed=seed,
        calls=calls,
        checked=CHECKED,
        memory=memory,
    )
    allowed = limits(bed, arms, seconds)
    return call(bed.engine, TIME, args, run_dir=bed.run_dir, limits=allowed, on_progress=on_progress)


def _kept(path: Path) -> dict[str, np.ndarray]:
    """The outputs that a process kept; the file goes.

    Raises:
        LabFailure: it cannot be read.
    """
    try:
        return read_arrays(path, OUTPUTS_BYTES)
    except ValueError as error:
        raise LabFailure(f"bench: {error}") from None
    finally:
        path.unlink(missing_ok=True)


def limits(bed: TimingBed, arms: Sequence[Arm], seconds: float) -> Limits:
    """What a timing process may use. It speaks after every arm that is warm and after every round, so what ends a hang
    is its silence. With a GPU the address space says nothing about memory and stays unlimited."""
    kernels = [kernel for arm in arms for kernel in (arm.kernel, *arm.parts.values())]
    folders = {str(kernel.path.parent) for kernel in kernels}
    return Limits(
        seconds=bed.most_seconds,
        quiet_seconds=QUIET_SECONDS + seconds,
        memory_bytes=psutil.virtual_memory().total + 16 * GIB if bed.engine.device == "cpu" else None,
        file_bytes=GIB,
        confined=True,
        readable=(*sorted(folders), str(bed.inputs)),
        gpu=bed.engine.device == "cuda",
    )
