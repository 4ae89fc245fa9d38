"""Parts `verify` and `bench`: every Triton kernel through the lab's own verbs, what is known already left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autoresearch_lab.catalog import Kernel
from autoresearch_lab.evidence import Subject
from autoresearch_lab.profile.run import newest_workloads
from autoresearch_lab.results.record import Record
from benchmarks.gpu.command import Done, verb
from benchmarks.gpu.evidence import pack
from benchmarks.gpu.rows import overall, table_rows
from benchmarks.gpu.setting import Setting

# Verification is the oracle's work on the CPU for the most part, so several kernels at once.
MOST_WORKERS, CORES_PER_WORKER, MOST_BENCH_SECONDS = 8, 2, 90.0
# With this target several arms are FlexAttention, which is compiled for every call.
LONG_BENCH = {"windowed_attention": 180.0}
# One look after three processes: a rule fixed beforehand as any other, and shorter.
LOOKS, BUDGET = "3", "20"


def verify(setting: Setting, seconds: float) -> dict[str, Any]:
    """{"<target>=<kernel>": {"verdict", "reason", "seconds"}}, those first where most can be saved; in a rehearsal
    through the interpreter."""
    end = setting.left - seconds
    mode = ["--interpreted"] if setting.rehearse else []

    def one(kernel: Kernel) -> dict[str, Any]:
        if record := known(setting, "verify", kernel):
            return {"verdict": record.verdict, "reason": "known from an earlier call", "seconds": 0.0}
        names = [f"{kernel.target}={kernel.name}"]
        threads = {} if setting.rehearse else {"OMP_NUM_THREADS": str(CORES_PER_WORKER)}
        return _told(verb(setting, "verify", *names, *mode, seconds=setting.left - end, variables=threads))

    kernels = sorted(setting.kernels, key=_by_saving(setting))
    workers = min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // CORES_PER_WORKER))
    with ThreadPoolExecutor(1 if setting.rehearse else workers) as pool:
        return {label(kernel): told for kernel, told in zip(kernels, pool.map(one, kernels), strict=True)}


def bench(setting: Setting, seconds: float, done: dict[str, Any]) -> dict[str, Any]:
    """{"<target>=<kernel>": {"verdict", "reason", "seconds", "overall", "rows"}}, the most promising first, while there
    is time.

    Where the compiled baseline cannot be built, the bench is done without that arm, and says so.
    """
    end = setting.left - seconds
    compiler = ((done.get("confined") or {}).get("found") or {}).get("torch.compile")
    found = {}
    for kernel in sorted(setting.timed, key=_by_saving(setting)):
        if setting.rehearse:  # others are timed there than were verified
            names = [f"{kernel.target}={kernel.name}"]
            verb(setting, "verify", *names, seconds=setting.left - end)
        try:
            told = _bench(setting, kernel, end, compiler)
            found[label(kernel)] = _without_figures(told) if setting.rehearse else told
        except Exception as error:  # the other kernels' minutes are not given away for this one
            words = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            found[label(kernel)] = {"verdict": None, "reason": words, "seconds": 0.0, **_figures(setting, None)}
        pack(setting)
    return found


def _bench(setting: Setting, kernel: Kernel, end: float, compiler: str | None) -> dict[str, Any]:
    """One kernel, until `end` seconds are left. compiler: what torch.compile fails with in confined jobs."""
    record = known(setting, "bench", kernel)
    if record is not None:
        return {"verdict": record.verdict, "reason": "", "seconds": 0.0, **_figures(setting, record)}
    verified = known(setting, "verify", kernel)
    if not setting.rehearse and (verified is None or verified.verdict != "PASS"):
        return {"verdict": None, "reason": "no verification passed here", "seconds": 0.0, **_figures(setting, None)}
    names = [f"{kernel.target}={kernel.name}", "--looks", "2" if setting.rehearse else LOOKS]
    names += ["--budget", "1" if setting.rehearse else BUDGET, *(["--no-compiled-arm"] if compiler else [])]

    def run(*more: str) -> dict[str, Any]:
        limit = min(LONG_BENCH.get(kernel.target, MOST_BENCH_SECONDS), setting.left - end)
        return _told(verb(setting, "bench", *names, *more, seconds=limit))

    told = run() | ({"without_compiled_arm": compiler} if compiler else {})
    if told["verdict"] is None and not compiler and _is_compilers(told["reason"]):
        told = {**run("--no-compiled-arm"), "without_compiled_arm": told["reason"]}
    return {**told, **_figures(setting, known(setting, "bench", kernel))}


def _figures(setting: Setting, record: Record | None) -> dict[str, Any]:
    """{"overall", "rows"} of a bench, see `rows`; of none where there is no record."""
    if record is None:
        return {"overall": None, "rows": []}
    return {"overall": overall(record), "rows": table_rows(setting, record)}


def _without_figures(told: dict[str, Any]) -> dict[str, Any]:
    """Of a rehearsal: what came out on this CPU is not what this is for. That there are rows is."""
    verdict = "rehearsed" if told["verdict"] and told["rows"] else None
    return {**told, "verdict": verdict, "reason": "" if verdict else told["reason"], "overall": None, "rows": []}


def _is_compilers(reason: str) -> bool:
    return any(word in reason.lower() for word in ("inductor", "dynamo", "torch.compile", "backendcompiler"))


def label(kernel: Kernel) -> str:
    return f"{kernel.target}={kernel.name}"


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
    captured = newest_workloads(kernel.target, setting.lab)
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
