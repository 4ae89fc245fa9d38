"""Deep profile of one captured call of one kernel: Nsight Compute on a GPU, the machine code on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoresearch_common.arrays import write_arrays
from autoresearch_common.workload import CapturedWorkload
from autoresearch_lab import jobs, jsonfile
from autoresearch_lab.bench.inputs import contents, has_gradient
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.profile.run import ensure_workloads
from autoresearch_lab.results.record import CountersRecord, MachineCodeRecord, Record
from autoresearch_lab.results.trace import CountersResults, CountersSeeds, CountersSettings, MachineCodeSettings
from autoresearch_lab.trace import launch, machine_code, ncu
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.timing import OneCallArgs, TimedCall

WHAT = "deep-profile"
TOOLS = {"cuda": "ncu", "cpu": "objdump"}
SEED = 0


def require(engine: Engine) -> str:
    """Path of the tool for this engine.

    Raises:
        LabError: there is none for it, or not on this machine.
    """
    if engine.name not in TOOLS:
        raise LabError(f"{WHAT} is for --engine {' or '.join(TOOLS)}, not engine {engine.name}")
    return launch.find(TOOLS[engine.name], WHAT)


def deep_profile(
    lab: Lab,
    target: Target,
    kernel: Kernel,
    program: str,
    workload: str | None = None,
    on_progress: Report | None = None,
) -> CountersRecord | MachineCodeRecord:
    """Measure one call and append the record (kind "trace"; settings.tool says by what). program: see `require`.
    workload: id of a captured call; None: the one that moves the most bytes.

    Raises:
        LabError: no such call, or the kernel does not load, or the tool is for others.
        LabFailure: the call failed, or the tool found nothing.
    """
    captured = ensure_workloads(target, lab, on_progress=on_progress)
    chosen = choose_workload(target, captured, workload)
    tool = TOOLS[lab.engine.name]
    if on_progress is not None:
        on_progress({"stage": f"one call under {tool}"})
    about = {
        **lab.context.fields(),
        "target": target.name,
        "kernel": kernel.id,
        "workloads": captured.record_field(),
        "seeds": CountersSeeds(inputs=SEED),
    }
    with jobs.run_folder(lab.root, tool) as folder:
        args = one_call(target, kernel, captured, chosen, folder)
        if tool == "ncu":
            launches = ncu.measure(program, lab.engine, args, run_dir=folder)
            return lab.ledger.append(
                CountersRecord,
                **about,
                settings=CountersSettings(
                    tool="ncu",
                    tool_version=launch.version(program),
                    workload=chosen["id"],
                    metrics=list(ncu.METRICS),
                    launches=ncu.LAUNCHES,
                ),
                results=CountersResults(launches=launches),
            )
        watched = machine_code.measure(program, lab.engine, args, run_dir=folder)
        return lab.ledger.append(
            MachineCodeRecord,
            **about,
            settings=MachineCodeSettings(
                tool="objdump",
                tool_version=launch.version(program),
                workload=chosen["id"],
                perf=launch.version(watched.perf) if watched.perf else None,
                seconds=machine_code.REPEAT_SECONDS if watched.perf else None,
            ),
            results=watched.results,
        )


def one_call(
    target: Target, kernel: Kernel, captured: WorkloadSet, workload: CapturedWorkload, folder: Path
) -> OneCallArgs:
    """The job that makes the call; its inputs, captured values where there are some, are written into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = contents(target, captured, workload, np.random.default_rng(SEED))
    inputs = folder / "inputs.safetensors"
    write_arrays(inputs, {f"{workload['id']}/{name}": array for name, array in arrays.items()})
    call: TimedCall = {
        "id": workload["id"], "args": workload["args"], "gradient": has_gradient(target, workload), "shifts": [1],
    }  # fmt: skip
    return OneCallArgs(kernel=kernel.file, workload=call, inputs=str(inputs))


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
