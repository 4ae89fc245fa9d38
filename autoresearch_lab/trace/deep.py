"""Deep profile: Nsight Compute on one captured call of one kernel, as a record of the ledger."""

from __future__ import annotations

from pathlib import Path

from autoresearch_common.workload import CapturedWorkload
from autoresearch_lab import jobs, jsonfile
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.profile.run import ensure_workloads
from autoresearch_lab.results.record import CountersRecord, Record
from autoresearch_lab.results.trace import CountersResults, CountersSeeds, CountersSettings
from autoresearch_lab.trace import launch, ncu
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Report

WHAT = "deep-profile"


def require(engine: Engine) -> str:
    """Path of ncu.

    Raises:
        LabError: the engine is not that of NVIDIA GPUs, or there is no ncu.
    """
    if engine.name != "cuda":
        raise LabError(f"{WHAT}: Nsight Compute measures NVIDIA GPUs (--engine cuda), not engine {engine.name}")
    return launch.find("ncu", WHAT)


def deep_profile(
    lab: Lab,
    target: Target,
    kernel: Kernel,
    program: str,
    workload: str | None = None,
    on_progress: Report | None = None,
) -> CountersRecord:
    """Measure one call and append the record (kind "trace", settings.tool "ncu"). workload: id of a captured call;
    None: the one that moves the most bytes.

    Raises:
        LabError: no such call, or the kernel does not load.
        LabFailure: the call failed, or ncu measured nothing.
    """
    captured = ensure_workloads(target, lab, on_progress=on_progress)
    chosen = choose_workload(target, captured, workload)
    if on_progress is not None:
        on_progress({"stage": "one call under ncu"})
    with jobs.run_folder(lab.root, "ncu") as folder:
        launches = ncu.measure(program, lab.context.engine, target, kernel, captured, chosen, run_dir=folder)
    return lab.ledger.append(
        CountersRecord,
        **lab.context.fields(),
        target=target.name,
        kernel=kernel.id,
        workloads=captured.record_field(),
        seeds=CountersSeeds(inputs=ncu.SEED),
        settings=CountersSettings(
            tool="ncu",
            tool_version=launch.version(program),
            workload=chosen["id"],
            metrics=list(ncu.METRICS),
            launches=ncu.LAUNCHES,
        ),
        results=CountersResults(launches=launches),
    )


def choose_workload(target: Target, captured: WorkloadSet, wanted: str | None) -> CapturedWorkload:
    """The captured call of that id; None: the one that moves the most bytes.

    Raises:
        LabError: there is none; the message lists those there are.
    """
    if wanted is None:
        return max(captured.workloads, key=lambda call: target.oracle.cost(call, "forward")[1])
    for call in captured.workloads:
        if call["id"] == wanted:
            return call
    known = ", ".join(call["id"] for call in captured.workloads)
    raise LabError(f"{WHAT}: no captured call of {target.name} is '{wanted}'; known: {known}")


def save(record: Record, path: Path) -> None:
    """Write what was found as JSON.

    Raises:
        LabError: the file cannot be written.
    """
    plain = record.plain()
    about = ("schema", "id", "time", "engine", "device", "software")
    kept = (*about, "target", "kernel", "workloads", "settings", "results")
    jsonfile.save({name: plain[name] for name in kept}, path, WHAT)
