"""A side with real processes: git, its own train.py, and val_bpb by the lab from the weights that it leaves."""

import shutil
import sysconfig
from pathlib import Path

import pytest
from safetensors.torch import load_file

from autoresearch_data.build import prepare
from autoresearch_data.dataset import open_dataset
from autoresearch_data.local import LocalCorpus
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, PACKAGES, Root
from autoresearch_lab.versions import evaluation, training
from autoresearch_lab.versions.rule import TrialRule
from autoresearch_lab.versions.sides import open_side
from autoresearch_trainer.evaluate import evaluate_bpb
from autoresearch_trainer.rungs import full_tokens

from .conftest import git


def test_a_side_is_trained_by_its_own_tree_and_evaluated_by_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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
    edited = tmp_path / "autoresearch_trainer" / "model.py"
    edited.write_text(edited.read_text().replace("X0_LAMBDA_INIT = 1.0, 0.1", "X0_LAMBDA_INIT = 0.5, 0.1"))
    files = [Path(sysconfig.get_path("stdlib")) / f"{name}.py" for name in ("argparse", "ast", "inspect", "typing")]
    data = prepare(LocalCorpus("small", [file for file in files if file.is_file()]), tmp_path / "data" / "small")
    weights: list[tuple[float, float, float]] = []

    def both(side, path, base, tokens, engine):
        found = evaluation.evaluate(side, path, base, tokens, engine)
        initial = load_file(path)["resid_lambdas"].mean().item()
        weights.append((found.val_bpb, own_bpb(path, base, tokens, data.dataset.folder), initial))
        return found

    monkeypatch.setattr(training, "evaluate", both)
    context = Context(ENGINES["cpu"], {"kind": "cpu", "key": "cpu-1"}, {"key": "s1"})
    root = Root(tmp_path)
    side = open_side("b", ". compile=off depth=1", "small", root)
    trainer = training.SideTrainer(context, "cpu-nano", TrialRule(), Cache(root), root.runs, "x")
    assert side.commit.endswith("+") and trainer.plan(side) == 2048
    found = trainer.train(side, 7, 13, 4096, "a training")
    [(ours, theirs, initial)] = weights
    assert ours == theirs == found.val_bpb or ours == pytest.approx(theirs, abs=1e-5)
    assert abs(initial - 0.5) < 0.1, "the edited tree is what trained"
    assert 0 < found.tokens_per_second < 1e6 and found.peak_memory_mb > 100 and found.outside_seconds > 0
    assert trainer.train(side, 7, 13, 4096, "") == found and trainer.reused == 1


def own_bpb(weights: Path, base, tokens: int, folder: Path) -> float:
    """As a process of the trainer computes it."""
    from autoresearch_cuda import engine

    dataset, batch, length = open_dataset(folder), base.batch_size, base.model.sequence_len
    model = engine.load_model(weights, engine.Ops.load(None), "cpu")
    over = full_tokens(dataset, length, batch * length)
    return evaluate_bpb(engine.BatchLosses(model, batch), dataset, batch, length, tokens, spread_over=over).val_bpb
