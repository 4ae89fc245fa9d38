"""One verification: draw the cases, have baseline and candidate compute them, judge, and write the record."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch_common.hashing import kernel_hash
from autoresearch_common.tolerance import round_up
from autoresearch_lab import diet
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.jobs import about, in_background
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.results.base import KernelId
from autoresearch_lab.results.record import VerifyRecord
from autoresearch_lab.results.verify import CheckResult, FoundFactor, VerifyResults, VerifySeeds, VerifySettings
from autoresearch_lab.verify.cases import Case
from autoresearch_lab.verify.checks import NEEDED, ORDER
from autoresearch_lab.verify.checks.result import failed
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_lab.verify.diagnosis import next_step
from autoresearch_lab.verify.exchange import Answers, again_if_killed, ask, discard, write_inputs
from autoresearch_lab.verify.plan import Planner
from autoresearch_lab.verify.reference import References
from autoresearch_lab.verify.sanitized import Sanitized, has_source, run_sanitized
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Progress as JobProgress
from autoresearch_trainer.jobs.calls import CallAnswer

# How long a candidate's process may take to load, or for one case; honest ones need a second, some to compile.
CANDIDATE_SECONDS = 60.0
# Triton's interpreter takes a hundred times as long; Metal kernels are compiled, twice for every type of element.
INTERPRETED_SECONDS = 300.0
# Of tuned kernels, in the record: twenty sizes, three dtypes and a handful of kernels make some hundred.
MOST_CONFIGURATIONS = 512
BASELINE_SECONDS = 300.0
# With less left on the disk, what a process did not write says nothing about the kernel.
LEAST_FREE_BYTES = 64 << 20

Progress = Callable[[JobProgress], None]


@dataclass
class Prepared:
    """What does not depend on the candidate: cases, their inputs, what the oracle, the baseline and the other trusted
    implementations give."""

    cases: list[Case]
    references: References
    baseline: Answers = field(default_factory=Answers)
    trusted: list[Answers] = field(default_factory=list)


def verify(
    kernel: Kernel,
    target: Target,
    workload_set: WorkloadSet,
    lab: Lab,
    *,
    seed: int | None = None,
    run_dir: Path,
    profile_id: str | None = None,
    seconds: float | None = None,
    prepared: dict[str, Prepared] | None = None,
    on_progress: Progress | None = None,
) -> VerifyRecord:
    """Verify `kernel` and append the record (kind "verify", verdict PASS or FAIL).

    seed: of all shapes and values; drawn by the system where None, as it must be for the verdict to mean anything.
    seconds: how long the candidate's process may be quiet; None for what is usual. prepared: a dictionary in which a
    caller that verifies several kernels with one seed keeps the parts they share.

    Raises:
        LabFailure: the baseline itself cannot be run, or contradicts the oracle on a captured call.
        LabError: the target has no baseline in this engine, the ledger cannot be written, the kernel's files changed
            meanwhile, or the disk was full: none of that is the kernel's doing, and no verdict.
    """
    began = time.monotonic()
    interpreted = lab.context.engine.interpreted
    seconds = seconds or (INTERPRETED_SECONDS if interpreted else CANDIDATE_SECONDS)
    chosen = seed if seed is not None else secrets.randbits(62)
    tell = about(f"verify {target.name}={kernel.name}", on_progress) or (lambda message: None)
    engine = lab.context.engine
    # In Triton's interpreter tensors lie on the CPU, where the whole trusted set can compute them.
    trusted = target.trusted(engine.framework, engine.job_device)
    baseline = trusted[0]
    hashes = " ".join(member.sha256 for member in trusted)
    key = f"{target.contract_sha256} {workload_set.sha256} {workload_set.path} {hashes} {chosen}"
    shared = (prepared or {}).get(key)
    ready = shared or _prepare(target, workload_set, chosen, combined=not interpreted)
    candidate, idle, sanitized = _compute(
        kernel, trusted, target, lab.context, ready, run_dir, seconds, tell, fresh=shared is None
    )
    computed = ready.baseline.answer is not None  # not where the candidate does not load
    if prepared is not None and computed:
        prepared[key] = ready
    _require_unchanged(kernel)
    tell({"stage": "judge"})
    evidence = Comparisons(
        target, ready.cases, candidate, ready.baseline, ready.references, idle, ready.trusted, sanitized
    )
    for member, answers in zip(trusted[1:] if computed else (), ready.trusted, strict=True):
        if answers.failure is not None:
            evidence.not_judged[f"trusted {member.name}"] = f"is left out: {answers.failure.message}"
    results = _results(judge(evidence), evidence)
    if results.failed_check:
        results.next_step = next_step(evidence, results.failed_check, kernel, chosen)
    told = candidate.answer
    results.launches = told.launches if told else None
    tuned = _configurations(told)
    results.configurations = tuned[:MOST_CONFIGURATIONS]
    results.configurations_left_out = max(0, len(tuned) - MOST_CONFIGURATIONS)
    if results.failed_check:
        _require_space(run_dir, [candidate, idle, sanitized.answers if sanitized else None])
    if results.failed_check != "loads":  # else the reason says it already
        results.diet = diet.lines(kernel.path)
    results.duration_seconds = round(time.monotonic() - began, 2)
    if not results.failed_check:
        shutil.rmtree(run_dir, ignore_errors=True)  # after a failure the logs may tell more
    tolerance = target.contract.tolerance
    in_workspace = kernel.name.startswith("workspace:")
    return lab.ledger.append(
        VerifyRecord,
        **lab.context.fields(),
        target=target.name,
        kernel=kernel.id,
        workloads=workload_set.record_field(profile_id),
        seeds=VerifySeeds(verify=chosen, drawn=seed is None),
        settings=VerifySettings(
            contract_sha256=target.contract_sha256,
            factor=tolerance.factor,
            floor=tolerance.floor,
            baseline=KernelId(name=baseline.name, sha256=baseline.sha256),
            trusted=[member.id for member in trusted],
            seconds=seconds,
            interpreted=interpreted,
            not_enforced=candidate.unenforced,
            workspace=lab.root.relative(kernel.path.parent) if in_workspace else None,
        ),
        results=results,
        verdict="FAIL" if results.failed_check else "PASS",
    )


def _require_unchanged(kernel: Kernel) -> None:
    """Raises LabError where its files are not what they were when the verification began."""
    try:
        changed = kernel_hash(kernel.path) != kernel.sha256
    except OSError as error:
        raise LabError(f"verify: {kernel.path} is gone ({error}); nothing was recorded") from None
    if changed:
        raise LabError(f"verify: {kernel.path} was edited meanwhile; nothing was recorded, verify it again")


def _require_space(run_dir: Path, answers: Sequence[Answers | None]) -> None:
    """Raises LabError where a process that failed may have failed because nothing more could be written."""
    told = [answer.failure for answer in answers if answer is not None and answer.failure is not None]
    full = [os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)]
    said = any(text in f"{failure.message} {failure.detail}" for failure in told for text in full)
    if said or (told and shutil.disk_usage(run_dir).free < LEAST_FREE_BYTES):
        raise LabError(f"verify: the disk of {run_dir} is full, so this is no verdict; nothing was recorded")


def judge(evidence: Comparisons) -> dict[str, CheckResult]:
    """All checks in order. Where the kernel gave no answer the rest is skipped."""
    results: dict[str, CheckResult] = {}
    for name, check in ORDER:
        if any(results[needed].status == "fail" for needed in NEEDED if needed in results):
            results[name] = CheckResult(status="skipped", reason="there is no answer to judge")
            continue
        try:
            results[name] = check(evidence)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # The answer is not trusted: one that cannot even be read is the candidate's fault, in words.
            results[name] = failed(f"the answer makes no sense: {type(error).__name__}: {error}")
    return results


def _configurations(told: CallAnswer | None) -> list[dict[str, Any]]:
    """Of tuned Triton kernels, as the candidate's process tells."""
    return [configuration.model_dump() for configuration in told.configurations] if told else []


def _prepare(target: Target, workload_set: WorkloadSet, seed: int, *, combined: bool) -> Prepared:
    rng = np.random.default_rng(seed)
    return Prepared(Planner(target, workload_set, rng, combined=combined).cases(), References(target.oracle))


def _compute(
    kernel: Kernel,
    trusted: Sequence[Kernel],
    target: Target,
    context: Context,
    ready: Prepared,
    run_dir: Path,
    seconds: float,
    tell: Progress,
    *,
    fresh: bool,
) -> tuple[Answers, Answers | None, Sanitized | None]:
    """Run the trusted implementations (the baseline first), the candidate, and the candidate under the sanitizer side
    by side, each in its own process, while the oracle computes here.

    The candidate's process never runs the baseline, and cannot read the folders in which the others' results lie. One
    that was killed from outside is no verdict: it is tried again when the others have ended, and then counts. The
    trusted implementations begin when the candidate is loaded; of one that cannot be loaded nothing else is found out.
    """
    baseline = trusted[0]
    folders = {name: run_dir / name for name in ("data", "candidate", "baseline", "bounds")}
    folders |= {member.name: run_dir / f"trusted_{member.name}" for member in trusted[1:]}
    calls = write_inputs(folders["data"], ready.cases, target.contract)
    try:
        engine = context.engine
        compute = partial(
            ask, engine, kernel, calls,
            part="candidate", run_dir=folders["candidate"], seconds=seconds, on_progress=tell,
        )  # fmt: skip
        begin, refused = threading.Event(), threading.Event()

        def first() -> Answers:
            try:
                found = compute(on_loaded=begin.set)
                if found.failure is not None and found.failure.at_load and found.failure.kind != "killed":
                    refused.set()
                return found
            finally:
                begin.set()

        def once_loaded(other: Callable[[], Answers]) -> Answers:
            begin.wait()
            return Answers() if refused.is_set() else other()

        checks = partial(run_sanitized, engine, kernel, calls, run_dir=folders["bounds"], seconds=seconds)
        others = [
            partial(
                ask, engine, member, calls,
                part="baseline", run_dir=folders["baseline" if member is baseline else member.name],
                seconds=BASELINE_SECONDS,
            )
            for member in (trusted if fresh else ())
        ]  # fmt: skip
        asked = in_background(first)
        checked = in_background(checks) if has_source(engine, kernel) else None
        own = [in_background(once_loaded, other) for other in others]
        running = [asked, *([checked] if checked else []), *own]
        try:
            if fresh:
                for case in ready.cases:
                    if refused.is_set():
                        break
                    for step in case.steps:
                        ready.references.of(case, step)
            answered, candidate, sanitized = [answer() for answer in own], asked(), checked() if checked else None
        except Exception:
            for answer in running:  # they work in these folders
                with suppress(Exception):
                    answer()
            raise
        # All have ended.
        if refused.is_set():
            return candidate, None, None
        if fresh:
            ready.baseline, *ready.trusted = [again_if_killed(*pair) for pair in zip(answered, others, strict=True)]
        candidate = again_if_killed(candidate, compute)
        if ready.baseline.failure is not None:
            raise LabFailure(f"verify: the baseline {baseline.name} itself fails: {ready.baseline.failure.message}")
        if candidate.failure is not None:
            return candidate, None, None
        if sanitized is not None and sanitized.killed:
            sanitized = checks()
        _vouch(Comparisons(target, ready.cases, ready.baseline, ready.baseline, ready.references), baseline.name)
        idle = None
        # In the candidate's folder, where its compiled code is cached.
        idles = partial(ask, engine, kernel, calls, part="idle", run_dir=folders["candidate"], seconds=seconds)
        if candidate.told.native:
            idle = idles()
        return candidate, again_if_killed(idle, idles) if idle else None, sanitized
    finally:
        for folder in folders.values():
            discard(folder)


def _vouch(evidence: Comparisons, name: str) -> None:
    """The baseline has to be usable on what the trainer really calls; otherwise nothing can be judged."""
    for case in evidence.cases:
        if case.group == "accuracy":
            list(evidence.comparisons(case))
            if not evidence.usable(case) or any(key.startswith(f"{case.id} ") for key in evidence.not_judged):
                why = next(text for key, text in evidence.not_judged.items() if key.startswith(case.id))
                raise LabFailure(f"verify: no verdict, the baseline {name} is not right on {case.id}: {why}")


def _results(results: dict[str, CheckResult], evidence: Comparisons) -> VerifyResults:
    """What the checks found, as the record carries it."""
    first = next((name for name, result in results.items() if result.status == "fail"), None)
    answered = evidence.candidate.failure is None
    worst = evidence.worst() if answered else None
    return VerifyResults(
        failed_check=first,
        reason=results[first].reason if first else "",
        error_ratio=min(worst, 1e308) if worst is not None else None,
        checks=[found.model_copy(update={"name": name}) for name, found in results.items()],
        cases=len(evidence.cases),
        not_judged=evidence.not_judged if answered else {},
        factors=_factors(evidence) if answered else [],
    )


def _factors(evidence: Comparisons) -> list[FoundFactor]:
    """Per result the comparison in which the smallest factor would have been found."""
    best: dict[str, FoundFactor] = {}
    for one in evidence.everything:
        if one.factor is None:
            continue
        found = FoundFactor(
            case=one.case.id,
            step=one.step,
            result=str(one.name),
            arguments=one.case.shapes(),
            factor=round_up(one.factor.found.value),
            standard_error=round_up(one.factor.found.spread),
            trusted=round_up(one.factor.trusted),
            allowed=round_up(one.factor.allowed),
            smallest=round_up(one.factor.least),
        )
        known = best.get(found.result)
        if known is None or found.smallest < known.smallest:
            best[found.result] = found
    return list(best.values())
