"""Parts `verify` and `bench`: every Triton kernel through the lab's own verbs, what is known already left out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autoresearch_lab.bench import samples
from autoresearch_lab.bench.checks import highest
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.machine import code_digest, floor_seconds
from autoresearch_lab.profile.rank import fastest_dtype
from autoresearch_lab.records import Record
from benchmarks.gpu.command import Done, verb
from benchmarks.gpu.setting import Setting

# Verification is the oracle's work on the CPU for the most part, so several kernels at once.
WORKERS, MOST_VERIFY_SECONDS, MOST_BENCH_SECONDS = 4, 150.0, 90.0
# One look after three processes: a rule fixed beforehand as any other, and shorter.
LOOKS, BUDGET = "3", "20"


def verify(setting: Setting, seconds: float) -> dict[str, Any]:
    """{"<target>=<kernel>": {"verdict", "reason", "seconds"}}; in a rehearsal through the interpreter."""
    end = setting.left - seconds
    mode = ["--interpreted"] if setting.rehearse else []

    def one(kernel: Kernel) -> dict[str, Any]:
        if known := _known(setting, "verify", kernel):
            return {"verdict": known.verdict, "reason": "known from an earlier call", "seconds": 0.0}
        limit = min(MOST_VERIFY_SECONDS, setting.left - end)
        names = ["--target", kernel.target, "--kernel", kernel.name]
        return _told(verb(setting, "verify", *names, *mode, seconds=limit))

    kernels = setting.kernels
    with ThreadPoolExecutor(1 if setting.rehearse else WORKERS) as pool:
        return {label(kernel): told for kernel, told in zip(kernels, pool.map(one, kernels), strict=True)}


def bench(setting: Setting, seconds: float) -> dict[str, Any]:
    """{"<target>=<kernel>": {"verdict", "reason", "seconds", "rows"}}, the most promising first, until time is over.

    Where the compiled baseline cannot be built, the bench is repeated without that arm, and says so.
    """
    end = setting.left - seconds
    found = {}
    for kernel in sorted(setting.timed, key=_by_saving(setting)):
        names = ["--target", kernel.target, "--kernel", kernel.name, "--looks", "2" if setting.rehearse else LOOKS]
        names += ["--budget", "1" if setting.rehearse else BUDGET]
        if setting.rehearse:  # others are timed there than were verified
            verb(setting, "verify", *names[:4], seconds=min(MOST_VERIFY_SECONDS, setting.left - end))
        record = _known(setting, "bench", kernel)
        told: dict[str, Any] = {"verdict": record.verdict, "seconds": 0.0} if record else {}
        if record is None:
            done = verb(setting, "bench", *names, seconds=min(MOST_BENCH_SECONDS, setting.left - end))
            told = _told(done)
            if told["verdict"] is None and done.code is not None and not setting.rehearse:
                limit = min(MOST_BENCH_SECONDS, setting.left - end)
                again = _told(verb(setting, "bench", *names, "--no-compiled-arm", seconds=limit))
                told = {**again, "without_compiled_arm": told["reason"]}
            record = _known(setting, "bench", kernel)
        if setting.rehearse:  # what came out on this CPU is not what this is for
            told |= {
                "verdict": "rehearsed" if told["verdict"] else None,
                "reason": "" if told["verdict"] else told["reason"],
            }
        rows = table_rows(setting, record) if record and not setting.rehearse else []
        found[label(kernel)] = {**told, "rows": rows}
    return found


def label(kernel: Kernel) -> str:
    return f"{kernel.target}={kernel.name}"


def table_rows(setting: Setting, record: Record) -> list[dict[str, Any]]:
    """Of a bench record: per workload and direction, every arm's time in us, its share of the ceiling (the least time
    that this machine's measured ceilings allow / the time), and the candidate's ratio to the baseline with interval."""
    found = record.results or {}
    ceilings = _ceilings(setting, record)
    _, workloads, _ = samples.load(setting.root.path / record.artifacts[0].path)
    target = setting.catalog[record.target]
    rows = []
    for about, workload in zip(found["workloads"], workloads, strict=True):
        dtype = fastest_dtype(target, workload, setting.catalog, ceilings)
        for direction in (name for name in samples.DIRECTIONS if name in about["directions"]):
            times = about["directions"][direction]
            parts = ("forward", "backward") if direction == "both" else (direction,)
            floors = [floor_seconds(ceilings, *target.oracle.cost(workload, part), dtype) for part in parts]
            floor = None if None in floors else sum(floors) * 1e6
            arms = {"baseline": times["baseline_us"], record.kernel.name: times["candidate_us"]}
            arms |= {row["name"]: us for row, us in zip(found["libraries"], times["library_us"], strict=True)}
            rows.append(
                {
                    "target": record.target,
                    "kernel": record.kernel.name,
                    "workload": about["id"],
                    "shapes": [spec["shape"] for spec in workload["args"] if spec["kind"] == "array"],
                    "calls_per_step": about["calls_per_step"],
                    "direction": direction,
                    "microseconds": arms,
                    "share_of_ceiling": {arm: floor / us if floor and us else None for arm, us in arms.items()},
                    "ratio": times["ratio"],
                    "interval": times["interval"],
                    "record": record.id,
                }
            )
    return rows


def _known(setting: Setting, kind: str, kernel: Kernel) -> Record | None:
    """The newest record of that kind here of just this kernel with the lab as it is. One call goes on where another
    ended."""
    if not setting.root.ledger.exists():
        return None
    engine = setting.engine
    if setting.rehearse and kernel.language == "triton":
        engine = "cuda"
    for record in reversed(setting.ledger.find(kind=kind, engine=engine)):
        same = record.target == kernel.target and record.kernel and record.kernel.sha256 == kernel.sha256
        here = setting.device_key in (None, record.device["key"])
        if same and here and record.software["lab"] == code_digest("autoresearch_cuda"):
            return record
    return None


def _told(done: Done) -> dict[str, Any]:
    """The verdict of a verb that ended with one (exit code 0 or 1 and JSON), else none, with the reason."""
    told: dict[str, Any] = {"verdict": None, "reason": "", "seconds": round(done.seconds, 1)}
    if done.code in (0, 1) and done.out.strip():
        data = done.json()
        results = data.get("results") or data
        return {**told, "verdict": data.get("verdict"), "reason": results.get("reason") or ""}
    return {**told, "reason": done.reason}


def _by_saving(setting: Setting) -> Callable[[Kernel], float]:
    """Sort key: what the newest profile says could be saved at the kernel's target, most first."""
    profiles = setting.ledger.find(kind="profile", engine=setting.engine) if setting.root.ledger.exists() else []
    rows = (profiles[-1].results or {}).get("targets") or [] if profiles else []
    saveable = {row["target"]: row.get("saveable_ms") or row.get("total_ms") or 0.0 for row in rows}
    return lambda kernel: -saveable.get(kernel.target, 0.0)


def _ceilings(setting: Setting, record: Record) -> dict[str, Any]:
    notes = setting.ledger.find(kind="note", engine=setting.engine, device_key=record.device["key"])
    measured = [note.results or {} for note in notes if (note.settings or {}).get("event") == "ceilings"]
    return highest(measured) if measured else {}
