"""A small calibration with the real bench and real processes: what is planted runs, is recorded, and goes on."""

import shutil

import numpy as np
import pytest

from autoresearch_common.arrays import write_arrays
from autoresearch_lab import workloads
from autoresearch_lab.bench.rule import Rule
from autoresearch_lab.calibrate import run as calibration
from autoresearch_lab.calibrate.plan import Plan
from autoresearch_lab.calibrate.run import Calibration
from autoresearch_lab.calibrate.table import markdown
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root

CONTEXT = Context(ENGINES["cpu"], {"key": "a-device"}, {"key": "some-software"})
PLAN = Plan(
    targets=("relu_squared",), ab_targets=("relu_squared",), preset="cpu-nano", trials=1, effects=(0.1,),
    effect_trials=1, ab_trials=0, harm_trials=0, bench_seconds=1.0, library=False,
    rule=Rule(looks=(2,), error=0.05, resamples=200),
)  # fmt: skip


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A lab that has captured one call of relu_squared."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(calibration, "describe_dataset", lambda root, name: {})
    root = Root(tmp_path)
    root.kernels.symlink_to(CHECKOUT / "kernels")
    name, shape = "relu_squared-0000000a", [512, 256]
    spec = {"name": "x", "kind": "array", "dtype": "float32", "shape": shape, "strides": [256, 1], "grad": True}
    call = {
        "id": name, "target": "relu_squared", "args": [spec], "phase": "forward", "calls_per_step": 2.0,
        "sample": {"file": "relu_squared.safetensors", "prefix": f"{name}/"},
    }  # fmt: skip
    sample = tmp_path / "sample.safetensors"
    write_arrays(sample, {f"{name}/x": np.random.default_rng(0).normal(size=shape).astype(np.float32)})
    data = {"name": "stdlib", "fingerprint": "0"}
    captured = workloads.save(
        root, "relu_squared", engine="cpu", preset="cpu-nano", data=data, workloads=[call], sample=sample
    )
    ledger = Ledger(root.ledger)
    about = {"sha256": captured.sha256, "path": root.relative(captured.path), "count": 1}
    ledger.append(
        "capture", **CONTEXT.fields(), settings={"event": "workloads", "preset": "cpu-nano", "dataset": data},
        results={"workloads": {"relu_squared": about}}, workloads={"relu_squared": about},
    )  # fmt: skip
    ceilings = {"copy_gb_s": [], "matmul_gflop_s": {}}
    ledger.append("note", **CONTEXT.fields(), settings={"event": "ceilings"}, results=ceilings)
    yield root
    shutil.rmtree(root.results, ignore_errors=True)


def test_a_small_calibration(root):
    ledger = Ledger(root.ledger)
    report = Calibration(PLAN, Lab.of(CONTEXT, root, ledger), work_seconds=0.3, work_processes=1).run()
    assert report.made == 3 and report.missing == 0
    rows = {row.group.plant: row for row in report.rows}
    assert (rows["null"].done, rows["faster"].done, rows["slower"].done) == (1, 1, 1)
    assert not any("FAILED" in text for text in report.wrong)
    assert all(seconds > 0 for row in report.rows for seconds in row.seconds)
    planted = report.work["relu_squared"]
    assert planted.step_seconds > 0 and 0.1 in planted.measured
    assert "| null | 1/1 |" in markdown(report)

    # Nothing of this is evidence: the lab's own ledger holds notes, the planted verdicts lie in another one.
    assert {record.kind for record in ledger.records()} == {"capture", "note"}
    assert all(record.kernel is None for record in ledger.records())
    trials = Ledger(root.results / "calibration" / "results" / "kernel_lab" / "ledger.jsonl")
    assert len(trials.find(kind="bench")) == 3
    assert len({record.kernel.sha256 for record in trials.find(kind="bench")}) == 3
    assert ledger.problems() == [] and trials.problems() == []
    assert not list((root.results / "calibration").rglob("*.safetensors"))

    # All trials are on record: another call makes none and counts the same.
    again = Calibration(PLAN, Lab.of(CONTEXT, root, ledger)).run()
    assert again.made == 0 and [row.recorded() for row in again.rows] == [row.recorded() for row in report.rows]
