"""One verification: draw the cases, have baseline and candidate compute them, judge, and write the record."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.records import Record
from autoresearch_lab.verify.cases import Case
from autoresearch_lab.verify.checks import NEEDED, ORDER
from autoresearch_lab.verify.checks.result import Result, failed
from autoresearch_lab.verify.evidence import Evidence
from autoresearch_lab.verify.exchange import Answers, ask, discard, write_inputs
from autoresearch_lab.verify.plan import Planner
from autoresearch_lab.verify.reference import References
from autoresearch_lab.workloads import WorkloadSet

# How long a candidate's process may take to load, or for one case; honest ones need a second, some to compile.
CANDIDATE_SECONDS = 60.0
# Triton's interpreter takes a hundred times as long; Metal kernels are compiled, twice for every type of element.
INTERPRETED_SECONDS = 300.0
# Of tuned kernels, in the record: twenty sizes, three dtypes and a handful of kernels make some hundred.
MOST_CONFIGURATIONS = 512
BASELINE_SECONDS = 300.0

Progress = Callable[[dict[str, Any]], None]


@dataclass
class Prepared:
    """What does not depend on the candidate: cases, their inputs, the oracle's and the baseline's results."""

    cases: list[Case]
    references: References
    baseline: Answers = field(default_factory=Answers)


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
) -> Record:
    """Verify `kernel` and append the record (kind "verify", verdict PASS or FAIL).

    seed: of all shapes and values; drawn by the system where None, as it must be for the verdict to mean anything.
    seconds: how long the candidate's process may be quiet; None for what is usual. prepared: a dictionary in which a
    caller that verifies several kernels with one seed keeps the parts they share.

    Raises:
        LabFailure: the baseline itself cannot be run, or contradicts the oracle on a captured call.
        LabError: the target has no baseline in this engine, or the ledger cannot be written.
    """
    began = time.monotonic()
    interpreted = lab.context.engine.interpreted
    seconds = seconds or (INTERPRETED_SECONDS if interpreted else CANDIDATE_SECONDS)
    chosen = seed if seed is not None else secrets.randbits(62)
    tell = on_progress or (lambda message: None)
    baseline = target.baseline(lab.context.engine.framework, lab.context.engine.device)
    key = f"{target.contract_sha256} {workload_set.sha256} {baseline.sha256} {chosen}"
    shared = (prepared or {}).get(key)
    ready = shared or _prepare(target, workload_set, chosen)
    if prepared is not None:
        prepared[key] = ready
    candidate, idle = _compute(
        kernel, baseline, target, lab.context, ready, run_dir, seconds, tell, fresh=shared is None
    )
    tell({"stage": "judge"})
    evidence = Evidence(target, ready.cases, candidate, ready.baseline, ready.references, idle)
    results = judge(evidence)
    verdict, summary = _summary(results, evidence)
    if verdict == "PASS":
        shutil.rmtree(run_dir, ignore_errors=True)  # after a failure the logs may tell more
    tolerance = target.contract.tolerance
    in_workspace = kernel.name.startswith("workspace:")
    return lab.ledger.append(
        "verify",
        **lab.context.fields(),
        target=target.name,
        kernel={"name": kernel.name, "sha256": kernel.sha256},
        workloads=workload_set.record_field(profile_id),
        seeds={"verify": chosen, "drawn": seed is None},
        settings={
            "contract_sha256": target.contract_sha256,
            "factor": tolerance.factor,
            "floor": tolerance.floor,
            "baseline": {"name": baseline.name, "sha256": baseline.sha256},
            "seconds": seconds,
            "interpreted": interpreted,
            "not_enforced": candidate.unenforced,
            "workspace": lab.root.relative(kernel.path.parent) if in_workspace else None,
        },
        results={
            **summary,
            "interpreted": interpreted,
            "launches": _launches(candidate.description.get("launches")),
            "configurations": (tuned := candidate.description.get("configurations", []))[:MOST_CONFIGURATIONS],
            "configurations_left_out": max(0, len(tuned) - MOST_CONFIGURATIONS),
            "duration_seconds": round(time.monotonic() - began, 2),
        },
        verdict=verdict,
    )


def judge(evidence: Evidence) -> dict[str, Result]:
    """All checks in order. Where the kernel gave no answer the rest is skipped."""
    results: dict[str, Result] = {}
    for module in ORDER:
        if any(results[name].status == "fail" for name in NEEDED if name in results):
            results[module.NAME] = Result("skipped", "there is no answer to judge")
            continue
        try:
            results[module.NAME] = module.check(evidence)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # The answer is not trusted: one that cannot even be read is the candidate's fault, in words.
            results[module.NAME] = failed(f"the answer makes no sense: {type(error).__name__}: {error}")
    return results


def _launches(told: Any) -> dict[str, int] | None:
    """How many launches of Metal kernels ran on the CPU, by build, as the candidate's process tells; None of others."""
    if not isinstance(told, dict):
        return None
    return {name: count for name in ("checked", "fast") if isinstance(count := told.get(name), int)}


def _prepare(target: Target, workload_set: WorkloadSet, seed: int) -> Prepared:
    rng = np.random.default_rng(seed)
    return Prepared(Planner(target, workload_set, rng).cases(), References(target.oracle))


def _compute(
    kernel: Kernel,
    baseline: Kernel,
    target: Target,
    context: Context,
    ready: Prepared,
    run_dir: Path,
    seconds: float,
    tell: Progress,
    *,
    fresh: bool,
) -> tuple[Answers, Answers | None]:
    """Run baseline and candidate side by side, each in its own process, while the oracle computes here.

    The candidate's process never runs the baseline, and cannot read the folder in which the baseline's results lie.
    """
    folders = {name: run_dir / name for name in ("data", "candidate", "baseline")}
    inputs, size = write_inputs(folders["data"], ready.cases)
    common = {"data_bytes": size, "on_progress": tell}
    contract = target.contract
    try:
        asked = in_background(
            ask, context.engine, kernel, contract, ready.cases, inputs,
            run_dir=folders["candidate"], seconds=seconds, **common,
        )  # fmt: skip
        if fresh:
            own = in_background(
                ask, context.engine, baseline, contract, ready.cases, inputs,
                run_dir=folders["baseline"], seconds=BASELINE_SECONDS, data_bytes=size, every_step=False,
            )  # fmt: skip
            for case in ready.cases:
                for step in case.steps:
                    ready.references.of(case, step)
            ready.baseline = own()
        candidate = asked()
        if ready.baseline.failure is not None:
            raise LabFailure(f"verify: the baseline {baseline.name} itself fails: {ready.baseline.failure.message}")
        _vouch(Evidence(target, ready.cases, ready.baseline, ready.baseline, ready.references), baseline.name)
        idle = None
        if candidate.failure is None and candidate.description["native"]:
            # In the candidate's folder, where its compiled code is cached.
            idle = ask(
                context.engine, kernel, contract, [case for case in ready.cases if case.spied], inputs,
                run_dir=folders["candidate"], seconds=seconds, data_bytes=size, noop=True,
            )  # fmt: skip
        return candidate, idle
    finally:
        for folder in folders.values():
            discard(folder)


def in_background(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """Start a call in a thread that does not keep an interrupted process alive; the result waits and returns it."""
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = function(*args, **kwargs)
        except BaseException as error:  # handed to the caller below
            box["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join()
        if "error" in box:
            raise box["error"]
        return box["value"]

    return result


def _vouch(evidence: Evidence, name: str) -> None:
    """The baseline has to be usable on what the trainer really calls; otherwise nothing can be judged."""
    for case in evidence.cases:
        if case.group == "accuracy":
            list(evidence.comparisons(case))
            if not evidence.usable(case) or any(key.startswith(f"{case.id} ") for key in evidence.not_judged):
                why = next(text for key, text in evidence.not_judged.items() if key.startswith(case.id))
                raise LabFailure(f"verify: no verdict, the baseline {name} is not right on {case.id}: {why}")


def _summary(results: dict[str, Result], evidence: Evidence) -> tuple[str, dict[str, Any]]:
    """(verdict, results field of the record)."""
    first = next((name for name, result in results.items() if result.status == "fail"), None)
    answered = evidence.candidate.failure is None
    worst = evidence.worst() if answered else None
    return "FAIL" if first else "PASS", {
        "verdict": "FAIL" if first else "PASS",
        "failed_check": first,
        "reason": results[first].reason if first else "",
        "error_ratio": min(worst, 1e308) if worst is not None else None,
        "checks": [result.plain(name) for name, result in results.items()],
        "cases": len(evidence.cases),
        "not_judged": evidence.not_judged if answered else {},
    }
