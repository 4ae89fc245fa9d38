"""What the kernels are timed on: every captured call with its real values, written once per bench."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoresearch_common.arrays import storage, write_arrays
from autoresearch_common.workload import Workload
from autoresearch_lab.catalog import Target
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs.timing import TimedCall

# How many different contents a call cycles through (beside the scaling that differs from call to call).
CONTENTS = 3


def write_inputs(path: Path, target: Target, workload_set: WorkloadSet, rng: np.random.Generator) -> None:
    """All array arguments as "<workload id>/<argument>", contiguous, in their storage dtype."""
    arrays = {}
    for workload in workload_set.workloads:
        for name, array in contents(target, workload_set, workload, rng).items():
            arrays[f"{workload['id']}/{name}"] = array
    write_arrays(path, arrays)


def contents(
    target: Target, workload_set: WorkloadSet, workload: Workload, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Captured values where a sample of them was kept, else the oracle's typical ones."""
    if workload.get("sample"):
        return workload_set.inputs(workload, rng)
    drawn = target.oracle.inputs(workload, rng, "typical")
    specs = [spec for spec in workload["args"] if spec["kind"] == "array"]
    return {spec["name"]: np.asarray(drawn[spec["name"]]).astype(storage(spec["dtype"])) for spec in specs}


def job_workloads(target: Target, workload_set: WorkloadSet, rng: np.random.Generator) -> list[TimedCall]:
    """The workloads as the job `time` takes them: what is called, whether backward too, and how contents are varied."""
    return [
        {
            "id": workload["id"],
            "args": workload["args"],
            "gradient": has_gradient(target, workload),
            "shifts": [int(shift) for shift in rng.integers(1, 1 << 20, size=CONTENTS)],
        }
        for workload in workload_set.workloads
    ]


def weights(workload_set: WorkloadSet) -> list[float]:
    """Calls per optimizer step of each workload; what is called at set-up only counts once each."""
    counts = [float(workload["calls_per_step"]) for workload in workload_set.workloads]
    return counts if any(counts) else [1.0] * len(counts)


def has_gradient(target: Target, workload: Workload) -> bool:
    """Whether the trainer needs gradients of this call."""
    return target.differentiable and any(spec.get("grad") for spec in workload["args"])
