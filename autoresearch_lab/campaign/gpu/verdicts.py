"""Parts `verify` and `bench`: every Triton kernel through the lab's own verbs, what is known already left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from autoresearch_lab import evidence
from autoresearch_lab.bench.run import compile_ahead
from autoresearch_lab.campaign.command import Completed, label, subject
from autoresearch_lab.campaign.gpu.archive import pack
from autoresearch_lab.campaign.gpu.confined import COMPILER
from autoresearch_lab.campaign.gpu.result import Benched, BenchFound, ConfinedStart, Verified, VerifyFound
from autoresearch_lab.campaign.gpu.rows import call_rows, overall
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.steps import TimeBox
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Subject
from autoresearch_lab.profile.run import newest_workloads
from autoresearch_lab.results.record import BenchRecord, R, VerifyRecord

# Verification is the oracle's work on the CPU for the most part, so several kernels at once.
MOST_WORKERS, CORES_PER_WORKER, MOST_BENCH_SECONDS = 8, 2, 90.0
# With this target several arms are FlexAttention, which is compiled for every call.
LONG_BENCH = {"windowed_attention": 180.0}
# One look after three processes: a rule fixed beforehand as any other, and shorter.
LOOKS, BUDGET = "3", "40"
NOT_VERIFIED = "no verification passed here"


def verify(setting: Setting, box: TimeBox) -> Verified:
    """Those first where most can be saved; in a rehearsal through the interpreter."""
    mode = ["--interpreted"] if setting.rehearse else []

    def one(kernel: Kernel) -> VerifyFound:
        if record := known(setting, VerifyRecord, kernel):
            told = VerifyFound(verdict=record.verdict, reason="known from an earlier call")
        else:
            threads = None if setting.rehearse else CORES_PER_WORKER
            told = _told(setting.verb(box, "verify", *subject(kernel), *mode, threads=threads))
        if told.verdict == "PASS" and setting.engine == "cuda" and not known(setting, BenchRecord, kernel):
            _compile_ahead(setting, kernel, box)
        return told

    kernels = sorted(setting.kernels, key=_by_saving(setting))
    workers = min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // CORES_PER_WORKER))
    with ThreadPoolExecutor(1 if setting.rehearse else workers) as pool:
        return Verified({label(kernel): told for kernel, told in zip(kernels, pool.map(one, kernels), strict=True)})


def _compile_ahead(setting: Setting, kernel: Kernel, box: TimeBox) -> None:
    """What the kernel's bench is measured beside, while others are verified: the bench of one kernel is alone on the
    machine, so what is compiled there takes everybody's time."""
    captured = newest_workloads(kernel.target, setting.lab)
    if captured is None:
        return
    target, folder = setting.catalog[kernel.target], setting.root.runs / f"compile-{kernel.target}"
    try:
        compile_ahead(kernel, target, captured, setting.lab, folder, max(1.0, box.left))
    except (LabError, LabFailure) as failure:
        setting.keep_failure(f"compile-{kernel.target}", f"{failure}\n{getattr(failure, 'detail', '')}")


def bench(setting: Setting, box: TimeBox) -> Benched:
    """The most promising first, while there is time.

    Where the compiled baseline cannot be built, the bench is done without that arm, and says so.
    """
    start = setting.found(ConfinedStart)
    compiler = start.found.get(COMPILER) if start else None
    found: dict[str, BenchFound] = {}
    for kernel in sorted(setting.timed, key=_by_saving(setting)):
        if setting.rehearse:  # others are timed there than were verified
            setting.verb(box, "verify", *subject(kernel))
        try:
            told = bench_one(setting, kernel, box, compiler)
            found[label(kernel)] = _without_figures(told) if setting.rehearse else told
        except Exception as error:  # the other kernels' minutes are not given away for this one
            words = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            found[label(kernel)] = BenchFound(reason=words)
        pack(setting)
    return Benched(found)


def bench_one(setting: Setting, kernel: Kernel, box: TimeBox, compiler: str | None) -> BenchFound:
    """One kernel. compiler: what torch.compile fails with in confined jobs."""
    record = known(setting, BenchRecord, kernel)
    if record is not None:
        return _with_figures(setting, VerifyFound(verdict=record.verdict), record)
    verified = known(setting, VerifyRecord, kernel)
    if not setting.rehearse and (verified is None or verified.verdict != "PASS"):
        return BenchFound(reason=NOT_VERIFIED)
    words = [*subject(kernel), "--looks", "2" if setting.small else LOOKS]
    words += ["--budget", "1" if setting.small else BUDGET]

    def run(*more: str) -> VerifyFound:
        # Where it is small there is one kernel, and a machine that may be busy with other work.
        most = box.left if setting.small else LONG_BENCH.get(kernel.target, MOST_BENCH_SECONDS)
        return _told(setting.verb(TimeBox.of(min(most, box.left)), "bench", *words, *more))

    without = compiler
    told = run("--no-compiled-arm") if compiler else run()
    if told.verdict is None and not compiler and _is_compilers(told.reason):
        told, without = run("--no-compiled-arm"), told.reason
    found = _with_figures(setting, told, known(setting, BenchRecord, kernel))
    return found.model_copy(update={"without_compiled_arm": without})


def _with_figures(setting: Setting, told: VerifyFound, record: BenchRecord | None) -> BenchFound:
    """With the rows of a bench; with none where there is no record."""
    found = BenchFound(**told.model_dump())
    if record is not None:
        found.overall, found.rows = overall(record), call_rows(setting, record)
    return found


def _without_figures(told: BenchFound) -> BenchFound:
    """Of a rehearsal: what came out on this CPU is not what this is for. That there are rows is."""
    verdict = "rehearsed" if told.verdict and told.rows else None
    reason = "" if verdict else told.reason
    return told.model_copy(update={"verdict": verdict, "reason": reason, "overall": None, "rows": []})


def _is_compilers(reason: str) -> bool:
    return any(word in reason.lower() for word in ("inductor", "dynamo", "torch.compile", "backendcompiler"))


def known(setting: Setting, of: type[R], kernel: Kernel) -> R | None:
    """The newest record of that kind that speaks for just this kernel here, with the lab as it is and on the workloads
    that would be used now. One call goes on where another ended."""
    if not setting.root.ledger.exists():
        return None
    if setting.context is None:  # a rehearsal: its ledger is its own
        engine = "cuda" if kernel.language == "triton" else setting.engine
        return evidence.newest_of_content(setting.lab, of, engine, kernel)
    captured = newest_workloads(kernel.target, setting.lab)
    if captured is None:
        return None
    target = setting.catalog[kernel.target]
    record = Subject(target, kernel, captured.sha256, setting.context).latest(setting.lab.ledger, of)
    if isinstance(record, BenchRecord) and _rivals(target) - _timed_beside(record):
        return None  # they came with a later call
    return record


def _rivals(target: Target) -> set[str]:
    """The library's kernels that can be timed here now."""
    return {library.name for library in target.with_role("library", "torch", "cuda")}


def _timed_beside(record: BenchRecord) -> set[str]:
    """The arms that it has, and those that could not be timed."""
    return {arm.name for arm in record.settings.libraries} | set(record.results.left_out)


def _told(done: Completed) -> VerifyFound:
    """The verdict of a verb that ended with one (exit code 0 or 1 and JSON), else none, with the reason."""
    told = VerifyFound(reason=done.reason, seconds=round(done.seconds, 1))
    if done.code in (0, 1) and done.out.strip():
        data = done.json()
        told.verdict, told.reason = data.get("verdict"), (data.get("results") or data).get("reason") or ""
    return told


def _by_saving(setting: Setting) -> Callable[[Kernel], float]:
    """Sort key: what the newest profile says could be saved at the kernel's target, most first."""
    saveable = evidence.saveable(setting.lab) if setting.root.ledger.exists() else {}
    return lambda kernel: -saveable.get(kernel.target, 0.0)
