"""Parts `verify` and `bench`: every Triton kernel through the lab's own verbs, what is known already left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autoresearch_lab.bench import samples
from autoresearch_lab.bench.checks import highest
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.evidence import Subject
from autoresearch_lab.machine import floor_seconds
from autoresearch_lab.profile.rank import fastest_dtype
from autoresearch_lab.profile.run import newest_workloads
from autoresearch_lab.records import Record
from benchmarks.gpu.command import Done, verb
from benchmarks.gpu.evidence import pack
from benchmarks.gpu.setting import Setting

# Verification is the oracle's work on the CPU for the most part, so several kernels at once.
MOST_WORKERS, CORES_PER_WORKER, MOST_BENCH_SECONDS = 8, 2, 90.0
# With this target several arms are FlexAttention, which is compiled for every call.
LONG_BENCH = {"windowed_attention": 180.0}
# One look after three processes: a rule fixed beforehand as any other, and shorter.
LOOKS, BUDGET = "3", "20"
# Kernels are timed with cold caches, the ceilings by repeating: what moves less than this may run from the cache there.
COLD_BYTES = 256 << 20


def verify(setting: Setting, seconds: float) -> dict[str, Any]:
    """{"<target>=<kernel>": {"verdict", "reason", "seconds"}}, those first where most can be saved; in a rehearsal
    through the interpreter."""
    end = setting.left - seconds
    mode = ["--interpreted"] if setting.rehearse else []

    def one(kernel: Kernel) -> dict[str, Any]:
        if record := known(setting, "verify", kernel):
            return {"verdict": record.verdict, "reason": "known from an earlier call", "seconds": 0.0}
        names = ["--target", kernel.target, "--kernel", kernel.name]
        threads = {} if setting.rehearse else {"OMP_NUM_THREADS": str(CORES_PER_WORKER)}
        return _told(verb(setting, "verify", *names, *mode, seconds=setting.left - end, variables=threads))

    kernels = sorted(setting.kernels, key=_by_saving(setting))
    workers = min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // CORES_PER_WORKER))
    with ThreadPoolExecutor(1 if setting.rehearse else workers) as pool:
        return {label(kernel): told for kernel, told in zip(kernels, pool.map(one, kernels), strict=True)}


def bench(setting: Setting, seconds: float, done: dict[str, Any]) -> dict[str, Any]:
    """{"<target>=<kernel>": {"verdict", "reason", "seconds", "rows"}}, the most promising first, until time is over.

    Where the compiled baseline cannot be built, the bench is done without that arm, and says so.
    """
    end = setting.left - seconds
    compiler = ((done.get("confined") or {}).get("found") or {}).get("torch.compile")
    found = {}
    for kernel in sorted(setting.timed, key=_by_saving(setting)):
        if setting.rehearse:  # others are timed there than were verified
            names = ["--target", kernel.target, "--kernel", kernel.name]
            verb(setting, "verify", *names, seconds=setting.left - end)
        try:
            found[label(kernel)] = _bench(setting, kernel, end, compiler)
        except Exception as error:  # the other kernels' minutes are not given away for this one
            words = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            found[label(kernel)] = {"verdict": None, "reason": words, "seconds": 0.0, "rows": []}
        pack(setting)
    return found


def _bench(setting: Setting, kernel: Kernel, end: float, compiler: str | None) -> dict[str, Any]:
    """One kernel, until `end` seconds are left. compiler: what torch.compile fails with in confined jobs."""
    record = known(setting, "bench", kernel)
    if record is not None:
        rows = [] if setting.rehearse else table_rows(setting, record)
        return {"verdict": record.verdict, "reason": "", "seconds": 0.0, "rows": rows}
    verified = known(setting, "verify", kernel)
    if not setting.rehearse and (verified is None or verified.verdict != "PASS"):
        return {"verdict": None, "reason": "no verification passed here", "seconds": 0.0, "rows": []}
    names = ["--target", kernel.target, "--kernel", kernel.name, "--looks", "2" if setting.rehearse else LOOKS]
    names += ["--budget", "1" if setting.rehearse else BUDGET, *(["--no-compiled-arm"] if compiler else [])]

    def run(*more: str) -> dict[str, Any]:
        limit = min(LONG_BENCH.get(kernel.target, MOST_BENCH_SECONDS), setting.left - end)
        return _told(verb(setting, "bench", *names, *more, seconds=limit))

    told = run() | ({"without_compiled_arm": compiler} if compiler else {})
    if told["verdict"] is None and not compiler and _is_compilers(told["reason"]):
        told = {**run("--no-compiled-arm"), "without_compiled_arm": told["reason"]}
    if setting.rehearse:  # what came out on this CPU is not what this is for
        verdict = "rehearsed" if told["verdict"] else None
        return {**told, "verdict": verdict, "reason": "" if verdict else told["reason"], "rows": []}
    record = known(setting, "bench", kernel)
    return {**told, "rows": table_rows(setting, record) if record else []}


def _is_compilers(reason: str) -> bool:
    return any(word in reason.lower() for word in ("inductor", "dynamo", "torch.compile", "backendcompiler"))


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


def known(setting: Setting, kind: str, kernel: Kernel) -> Record | None:
    """The newest record of that kind that speaks for just this kernel here, with the lab as it is and on the workloads
    that would be used now. One call goes on where another ended."""
    if not setting.root.ledger.exists():
        return None
    if setting.context is None:  # a rehearsal: its ledger is its own
        engine = "cuda" if kernel.language == "triton" else setting.engine
        return setting.ledger.latest(
            kind=kind, engine=engine, target=kernel.target, kernel_sha256=kernel.sha256
        )  # fmt: skip
    captured = newest_workloads(kernel.target, setting.context, setting.root, setting.ledger)
    if captured is None:
        return None
    subject = Subject(setting.catalog[kernel.target], kernel, captured.sha256, setting.context)
    return subject.latest(setting.ledger, kind)


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
    """The highest that were measured on that device, of memory only what no cache can have helped."""
    notes = setting.ledger.find(kind="note", engine=setting.engine, device_key=record.device["key"])
    measured = [note.results or {} for note in notes if (note.settings or {}).get("event") == "ceilings"]
    if not measured:
        return {}
    found = highest(measured)
    cold = [row for row in found["copy_gb_s"] if row[0] >= COLD_BYTES]
    return {**found, "copy_gb_s": cold or found["copy_gb_s"]}
