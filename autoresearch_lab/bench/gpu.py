"""What a bench on a GPU says beside its times: whether the events can be believed, times with a warm cache and as
replayed graphs, and which kernels make the host wait."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoresearch_lab.bench.samples import Process
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.results.bench import Replayed, WorkloadTimes
from autoresearch_trainer.jobs.timing import TimeAnswer, TimedCall

# By how much the events may exceed the host's clock in one window (their resolution is half a microsecond), and what
# two clocks may drift apart.
EXCESS_US, EXCESS_SHARE = 5.0, 0.01
# Share of the host's time that the events have to explain over all windows; the rest is queueing and waking up.
EXPLAINED = 0.5
# How much longer an open window may last than its events, beyond what the baseline shows.
UNSEEN_NS, UNSEEN_SHARE = 25_000.0, 0.1
# How far (a ratio's logarithm) two ways to hide what launching costs may lie apart before the reader should know.
REPLAY_DISAGREES = math.log(1.1)


def check_events(answer: TimeAnswer, arms: Sequence[str]) -> None:
    """Hold the events of a process against its own host clock (which `check_clock` holds against the parent's).

    Device time cannot exceed the window that it lies in, it has to explain all windows together, and where host and
    device begin together (open windows) the device must not be busy for longer than the events say, or there is work
    that they do not see. Work on another stream that ends before the call has been queued escapes: some tens of
    microseconds. Nothing to check on a CPU.

    Raises:
        LabFailure: the times cannot be believed.
    """
    found = answer.gpu
    if found is None:
        return
    host, seen = found.host_seconds, found.seen_seconds
    if found.most_excess_us > EXCESS_US or seen > host * (1 + EXCESS_SHARE):
        raise LabFailure(f"bench: {seen:.4f} s by events in windows of {host:.4f} s by the host's clock")
    if seen < EXPLAINED * host:
        raise LabFailure(f"bench: events explain only {seen:.4f} s of windows of {host:.4f} s by the host's clock")
    device_ns = np.asarray(found.open_device)
    unseen = np.asarray(found.open_host) - device_ns  # (arm, workload, direction)
    allowed = np.maximum(unseen[0], 0.0) + UNSEEN_NS + UNSEEN_SHARE * device_ns
    if np.any(unseen > allowed):
        arm, place, direction = map(int, np.unravel_index(int(np.argmax(unseen - allowed)), unseen.shape))
        raise LabFailure(
            f"bench: {arms[arm]}: {('forward', 'backward')[direction]} of workload {place} keeps the device busy for "
            f"{unseen[arm, place, direction] / 1e3:.0f} us that the events do not see (work on another stream?)"
        )


def warm_times(
    processes: Sequence[Process], names: Sequence[str], workloads: Sequence[TimedCall]
) -> dict[str, dict[str, list[float]]] | None:
    """{arm: {workload id: [forward, backward] in us per call}} with a warm cache, medians over the processes; None
    where nothing but one state of the caches was measured."""
    measured = [process.answer.gpu.warm for process in processes if process.answer.gpu]
    if not measured:
        return None
    middle = np.median(np.asarray(measured, dtype=np.float64), axis=0) / 1e3
    return {
        name: {workload["id"]: middle[arm, place].tolist() for place, workload in enumerate(workloads)}
        for arm, name in enumerate(names)
    }


def replayed(processes: Sequence[Process], names: Sequence[str], workloads: Sequence[TimedCall]) -> Replayed | None:
    """Short calls (an arm's forward or backward under 100 us) as replayed CUDA graphs, caches flushed; None where none
    was.

    {"times": {arm: {workload id: [forward, backward] in us per call}}, medians over the processes, "failed": {arm:
    why one of its calls has no times}}.
    """
    found = [process.answer.gpu for process in processes if process.answer.gpu]
    times: dict[str, dict[str, list[float]]] = {}
    failed: dict[str, str] = {}
    for arm, name in enumerate(names):
        for place, workload in enumerate(workloads):
            seen = [raw.replayed[arm][place] for raw in found]
            for reason in (raw.not_replayed[arm][place] for raw in found):
                if reason:
                    failed.setdefault(name, reason)
            if seen and all(seen):
                middle = np.median(np.asarray(seen, dtype=np.float64), axis=0) / 1e3
                times.setdefault(name, {})[workload["id"]] = middle.tolist()
    return Replayed(times=times, failed=failed) if times or failed else None


def replay_remarks(graphs: Replayed | None, names: Sequence[str], rows: Sequence[WorkloadTimes]) -> list[str]:
    """A remark for every workload whose replayed graphs tell another speed-up than its windows behind a backlog do.

    names: those of the arms, the baseline first and the candidate last; rows: `results.workloads` of the bench.
    """
    times = graphs.times if graphs else {}
    baseline, candidate = times.get(names[0], {}), times.get(names[-1], {})
    remarks = []
    for row in rows:
        before, after = sum(baseline.get(row.id, [])), sum(candidate.get(row.id, []))
        if not before or not after:
            continue
        behind = row.whole.ratio
        if abs(math.log(before / after) - math.log(behind)) > REPLAY_DISAGREES:
            remarks.append(f"{row.id}: x{before / after:.3f} as replayed CUDA graphs, x{behind:.3f} by the backlog")
    return remarks


def waiting(processes: Sequence[Process], names: Sequence[str]) -> list[str]:
    """A remark for every arm that makes the host wait for the device: its times hold the host's own."""
    waits = [np.asarray(process.answer.gpu.waits, dtype=bool) for process in processes if process.answer.gpu]
    if not waits:
        return []
    often = np.logical_or.reduce(waits).any(axis=1)
    return [
        f"{name} makes the host wait for the GPU: its times hold the host's, too"
        for name, one in zip(names, often, strict=True)
        if one
    ]
