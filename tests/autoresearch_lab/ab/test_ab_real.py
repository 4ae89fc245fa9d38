"""One A/B with real processes: the trainer, a small corpus, and a kernel whose gain is planted in the other arm."""

import json
import sysconfig
from pathlib import Path

import pytest

from autoresearch_data.build import prepare
from autoresearch_data.local import LocalCorpus
from autoresearch_lab.ab.run import ab
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote.selection import parse_choice, resolve

SLOW = """
import time, torch

def relu_squared(x):
    time.sleep(0.3)
    return torch.relu(x).square()
"""
# Small budgets, and a rule to go with them: this checks that the parts work together, not how often they err.
# On a busy machine a third of a second of sleep is still one, so any foreign load is admitted.
SETTINGS = Settings(
    looks=(2,), race_seconds=0.5, race_limit=5.0, block_steps=1, foreign_limit=1.0, alpha=0.2, futility_alpha=0.2,
    steps=4, eval_tokens=2048, divergence_steps=3, clear_speed=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("lab")
    (path / "kernels").symlink_to(CHECKOUT / "kernels")
    root = Root(path)
    folder = Path(sysconfig.get_path("stdlib"))
    files = [folder / f"{name}.py" for name in ("argparse", "ast", "inspect", "typing", "tarfile", "turtle", "doctest")]
    prepare(LocalCorpus("small", [file for file in files if file.is_file()]), root.path / "data" / "small")
    return root


def evidence(ledger, context, target, kernel):
    common = {
        **context.fields(),
        "target": target.name,
        "kernel": {"name": kernel.name, "sha256": kernel.sha256},
        "workloads": {"sha256": "a" * 64, "count": 1, "profile": None},
        "settings": {"contract_sha256": target.contract_sha256},
    }
    ledger.append("verify", **common, verdict="PASS")
    ledger.append("bench", **common, verdict="FASTER", results={"ratio": 2.0})


def test_a_real_ab(root, monkeypatch):
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = Context(ENGINES["cpu"], {"kind": "cpu", "key": "cpu-test"}, {"key": "test"})
    catalog, ledger = load_catalog(root), Ledger(root.ledger)
    workspace = root.workspaces / "slow"
    workspace.mkdir(parents=True)
    (workspace / "kernel.py").write_text(SLOW)
    slow = resolve(f"relu_squared=workspace:{workspace}", catalog, context, root)
    fast = parse_choice("relu_squared=torch_eager", catalog, context.engine)
    evidence(ledger, context, catalog["relu_squared"], fast)

    def run(**changes):
        given = {"preset": "cpu-nano-d1-w64", "dataset": "small", "settings": SETTINGS, **changes}
        return ab({"relu_squared": fast}, slow, Lab.of(context, root, ledger), **given)

    record = run()
    found = record.results
    assert record.verdict == "PROMOTE", found.reason
    assert found.ratio > 1.1 and found.equal_time_steps > 4
    assert all(row.delta == 0.0 for row in found.neutral)  # the same arithmetic gives the same bits
    assert found.gates["divergence"].ratio == 0.0
    samples = json.loads((root.path / record.artifacts[0].path).read_text())
    assert len(samples["races"]) == 2 and samples["races"][0]["pairs"]
    assert not list(root.results.rglob("*.safetensors")) and not list(root.runs.glob("ab-*"))
    with pytest.raises(LabError, match="no-such"):
        run(dataset="no-such")
