"""One small trial with real processes: git, both sides' train.py, and val_bpb by the lab from what they leave."""

import shutil
import sysconfig
from pathlib import Path

import pytest

from autoresearch_data.build import prepare
from autoresearch_data.dataset import open_dataset
from autoresearch_data.local import LocalCorpus
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, PACKAGES, Root
from autoresearch_lab.versions import evaluation, training
from autoresearch_lab.versions.rule import TrialRule
from autoresearch_lab.versions.run import Versions, trial
from autoresearch_lab.versions.sides import open_side
from autoresearch_trainer.evaluate import evaluate_bpb
from autoresearch_trainer.rungs import full_tokens

from .conftest import git

TOKENS = 4096


def test_two_versions_are_trained_evaluated_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    bytecode = shutil.ignore_patterns("__pycache__", "promoted.local.toml")
    for name in (*PACKAGES, "kernels"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=bytecode)
    shutil.copy(CHECKOUT / "train.py", tmp_path)
    (tmp_path / ".gitignore").write_text("/data/\n/results/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "-m", "the trainer")
    schedule = tmp_path / "autoresearch_trainer" / "optim.py"
    text = schedule.read_text()
    assert "return cooled + (1 - cooled) * final" in text
    schedule.write_text(text.replace("return cooled + (1 - cooled) * final", "return 1.0"))
    files = [Path(sysconfig.get_path("stdlib")) / f"{name}.py" for name in ("argparse", "ast", "inspect", "typing")]
    data = prepare(LocalCorpus("small", [file for file in files if file.is_file()]), tmp_path / "data" / "small")
    pairs = []

    def both(side, weights, base, tokens, engine):
        found = evaluation.evaluate(side, weights, base, tokens, engine)
        pairs.append((found.val_bpb, own_bpb(weights, base, tokens, data.dataset.folder)))
        return found

    monkeypatch.setattr(training, "evaluate", both)
    root = Root(tmp_path)
    context = Context(ENGINES["cpu"], {"kind": "cpu", "key": "cpu-1"}, {"key": "s1"})
    lab = Lab.of(context, root, Ledger(root.ledger))
    sides = open_side("a", "HEAD compile=off", "small", root), open_side("b", ". compile=off", "small", root)
    rule = TrialRule(looks=(2,), steps=20, eval_tokens=TOKENS, foreign_limit=1.0, clock_tolerance=9.0)
    record = trial(Versions(lab, *sides, "cpu-nano", rule), minutes=60)
    found = record.results
    assert found.look == 1 and len(found.pairs) == 2 and record.settings.b.commit.endswith("+"), found.reason
    assert all(ours == pytest.approx(theirs, abs=1e-5) for ours, theirs in pairs) and len(pairs) == 7
    assert found.val_bpb["b"] != found.val_bpb["a"] and min(found.tokens_per_second.values()) > 0
    assert min(found.peak_memory_mb.values()) > 100 and list(root.runs.glob("trial-*")) == []


def own_bpb(weights: Path, base, tokens: int, folder: Path) -> float:
    """As a process of the trainer computes it."""
    from autoresearch_cuda import engine

    dataset, batch, length = open_dataset(folder), base.batch_size, base.model.sequence_len
    model = engine.load_model(weights, engine.Ops.load(None), "cpu")
    over = full_tokens(dataset, length, batch * length)
    return evaluate_bpb(engine.BatchLosses(model, batch), dataset, batch, length, tokens, spread_over=over).val_bpb
