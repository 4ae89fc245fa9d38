"""The whole bench with the real engine on a small target: a planted slow baseline, a cache, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoresearch_common.arrays import write_arrays
from autoresearch_common.hashing import file_sha256
from autoresearch_lab import workloads
from autoresearch_lab.bench import samples
from autoresearch_lab.bench.rule import Rule
from autoresearch_lab.bench.run import bench
from autoresearch_lab.bench.table import render
from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root

SLOW = "import time\nimport torch\ndef relu_squared(x):\n    time.sleep(0.004)\n    return torch.relu(x).square()\n"
# Breaks the graph, and spoils in every process, first and last of all, the compiled code that it found in the first.
SPOILS = """import atexit
from pathlib import Path
import torch
found = Path("found")
if not found.exists():
    found.write_text("\\n".join(str(path) for path in Path("cache").rglob("*") if path.is_file()))
def spoil():
    for path in map(Path, found.read_text().split()):
        path.unlink(missing_ok=True)  # some are in use
        path.write_bytes(b"spoiled")
        path.with_name("planted").write_bytes(b"planted")
spoil()
atexit.register(spoil)
def relu_squared(x):
    print(end='')
    return torch.relu(x).square()
"""
QUICK = "import torch\ndef relu_squared(x):\n    return torch.relu(x).square()\n"
CACHE = """import torch
last = {}
def relu_squared(x):
    if x.data_ptr() not in last:
        last[x.data_ptr()] = torch.relu(x.detach()).square()
    return last[x.data_ptr()] + 0 * x
"""
RULE = Rule(looks=(3,), error=0.05, resamples=500)
CONTEXT = Context(ENGINES["cpu"], {"key": "a-device"}, {"key": "some-software"})


class Bench:
    """A root with one target whose baseline sleeps, one captured workload, and unknown ceilings."""

    def __init__(self, folder: Path) -> None:
        self.root = Root(folder)
        home = folder / "kernels" / "relu_squared"
        home.mkdir(parents=True)
        shutil.copy(CHECKOUT / "kernels" / "relu_squared" / "oracle.py", home)
        text = (CHECKOUT / "kernels" / "relu_squared" / "target.toml").read_text(encoding="utf-8")
        sources = {"quick": QUICK, "spoils": SPOILS, "cache": CACHE}
        entries = [("torch_eager", "baseline", SLOW), *((name, "candidate", text) for name, text in sources.items())]
        lines = [text[: text.index("[[kernels]]")]]
        for name, role, source in entries:
            (home / f"{name}.py").write_text(source, encoding="utf-8")
            lines.append(
                f'[[kernels]]\nname = "{name}"\nframework = "torch"\ndevices = ["cpu"]\nrole = "{role}"\n'
                f'language = "python"\nfile = "{name}.py"\n'
            )
        (home / "target.toml").write_text("\n".join(lines), encoding="utf-8")
        self.target = find_target(load_catalog(self.root), "relu_squared")
        self.ledger = Ledger(self.root.ledger)
        self.ledger.append(
            "note", **CONTEXT.fields(), settings={"event": "ceilings"}, results={"copy_gb_s": [], "matmul_gflop_s": {}}
        )
        spec = {"name": "x", "kind": "array", "dtype": "float32", "shape": [16, 8], "strides": [8, 1], "grad": True}
        workload = {
            "id": "relu_squared-0000000a", "target": "relu_squared", "args": [spec], "phase": "forward",
            "calls_per_step": 2.0, "sample": {"file": "relu_squared.safetensors", "prefix": "relu_squared-0000000a/"},
        }  # fmt: skip
        sample = folder / "sample.safetensors"
        values = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
        write_arrays(sample, {"relu_squared-0000000a/x": values})
        data = {"name": "none", "fingerprint": "0"}
        self.set = workloads.save(
            self.root, "relu_squared", engine="cpu", preset="cpu-nano", data=data, workloads=[workload], sample=sample
        )

    def verified(self, name: str, verdict: str = "PASS", workloads: dict | None = None):
        """The kernel of that name, with a verification on record."""
        kernel = self.target.kernel(name, "torch")
        self.ledger.append(
            "verify", **CONTEXT.fields(), target="relu_squared", kernel={"name": name, "sha256": kernel.sha256},
            workloads=workloads or self.set.record_field(), settings={"contract_sha256": self.target.contract_sha256},
            verdict=verdict,
        )  # fmt: skip
        return kernel

    def bench(self, kernel, compiled=False):
        folder = self.root.runs / "bench"
        lab = Lab.of(CONTEXT, self.root, self.ledger)
        return bench(
            kernel, self.target, self.set, lab, budget_seconds=1.0, seed=3, run_dir=folder, rule=RULE,
            compiled_arm=compiled,
        )  # fmt: skip


@pytest.fixture
def lab(tmp_path):
    return Bench(tmp_path)


def test_a_faster_kernel_is_measured_and_recorded(lab, capsys):
    kernel = lab.verified("quick")
    record = lab.bench(kernel)
    found = record.results
    assert record.verdict == "FASTER", found.reason
    forward = found.directions["forward"]
    assert forward.baseline_ms >= 2 * 4.0  # two calls per step, 4 ms each
    assert forward.candidate_ms < forward.baseline_ms
    assert record.kernel.sha256 == kernel.sha256 and record.workloads.sha256 == lab.set.sha256
    assert record.settings.contract_sha256 == lab.target.contract_sha256
    assert len(record.seeds.processes) == 3
    artifact = lab.root.path / record.artifacts[0].path
    assert file_sha256(artifact) == record.artifacts[0].sha256
    arms, _, processes = samples.load(artifact)
    assert [arm["role"] for arm in arms] == ["baseline", "control", "candidate"] and len(processes) == 3
    left = {path.name for path in (lab.root.runs / "bench" / "process").iterdir()}
    assert not left & {"tmp", "cache"} and not (lab.root.runs / "bench" / "inputs.safetensors").exists()
    assert lab.ledger.problems() == []
    from rich.console import Console

    render(record, Console(width=80))
    assert "FASTER" in capsys.readouterr().out


def test_a_cache_by_address_is_caught_by_its_outputs(lab):
    with pytest.raises(LabFailure, match="of a timed call differs from the baseline's on the same contents"):
        lab.bench(lab.verified("cache"))
    assert lab.ledger.find(kind="bench") == []


def test_only_verified_content_is_timed(lab):
    kernel = lab.target.kernel("quick", "torch")
    with pytest.raises(LabError, match="run verify first"):
        lab.bench(kernel)
    lab.verified("quick", workloads={**lab.set.record_field(), "sha256": "0" * 64})
    with pytest.raises(LabError, match=r"its PASS of 20\S+ does not count here: other workloads.*; run verify again"):
        lab.bench(kernel)
    lab.verified("quick", "FAIL")
    with pytest.raises(LabError, match="failed verification"):
        lab.bench(kernel)
    lab.verified("quick")
    kernel.path.write_text(QUICK + "# changed\n", encoding="utf-8")
    with pytest.raises(LabError, match="run verify first"):
        lab.bench(replace(kernel))


@pytest.mark.skipif(not shutil.which("g++"), reason="Inductor needs a C++ compiler")
def test_a_candidate_that_breaks_the_graph_is_told_so_and_spoils_no_compiled_code(lab):
    record = lab.bench(lab.verified("spoils"), compiled=True)
    found = record.results
    assert record.verdict == "FASTER", found.reason
    assert [arm.role for arm in found.arms] == ["baseline", "control", "library", "graph", "candidate"]
    assert found.graph_break.startswith("Failed to trace builtin operator: Dynamo does not know how to trace builtin")
    assert f"graph break in the candidate: {found.graph_break}" in found.remarks
    assert len(found.compile_seconds) == 3
    (kept,) = (lab.root.results / "compiled").iterdir()
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert any(path.suffix == ".so" for path in files)
    assert not any(path.name == "planted" or b"spoiled" in path.read_bytes() for path in files)
    assert found.saved_ms(compiled=True, standing=False) is not None
    assert record.settings.standing["relu_squared"].name == "torch_eager"
