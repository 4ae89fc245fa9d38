"""Job `throughput`: planted differences come out, and what a candidate must not do is seen."""

import statistics

import pytest
import torch

from autoresearch_cuda.kernel_files import installed_kernel
from autoresearch_cuda.probe import JOBS
from autoresearch_trainer.config import PRESETS, Preset
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.probe import throughput as shared

DATASET = {"folder": "nowhere", "fingerprint": "f" * 64}

pytestmark = pytest.mark.alone

SLOW = "import time, torch\ndef relu_squared(x):\n    time.sleep({})\n    return torch.relu(x).square()\n"


@pytest.fixture(autouse=True)
def small_preset(monkeypatch, config, dataset):
    preset = Preset(config.model, config.batch_size, config.total_batch_tokens, config.eval_tokens)
    monkeypatch.setitem(PRESETS, "test", preset)
    monkeypatch.setattr(shared, "open_checked", lambda described: dataset)


def kernel(tmp_path, code, name="planted"):
    path = tmp_path / f"{name}.py"
    path.write_text(code)
    return {"relu_squared": KernelFile.at("relu_squared", path).to_json()}


def run(tmp_path, candidate, baseline=None, **changes):
    args = {
        "preset": "test", "dataset": DATASET, "seed": 1, "seconds": 0.3, "limit_seconds": 3.0, "block_steps": 2,
        "least_pairs": 4, "foreign_limit": 1.0, "baseline": baseline or {}, "candidate": candidate, **changes,
    }  # fmt: skip
    return JOBS["throughput"](args, tmp_path, lambda message: None)


def ratio(result):
    return statistics.median(pair["baseline"] / pair["candidate"] for pair in result["pairs"])


def test_a_slower_candidate_is_slower_and_a_slower_baseline_too(tmp_path):
    slow = kernel(tmp_path, SLOW.format(0.01), "slow")  # 3 layers x 2 micro-batches x 10 ms more per step
    lost, won = run(tmp_path, slow), run(tmp_path, {}, baseline=slow)
    assert lost["failed"] is None and lost["environment"] == [] and lost["block_tokens"] == 256
    assert all(counts["relu_squared"] > 0 for counts in lost["calls"].values())
    assert len(lost["pairs"]) >= 4 and {pair["first"] for pair in lost["pairs"]} <= set(shared.ARMS)
    assert ratio(lost) < 0.8 and ratio(won) > 1.25


def test_pairs_under_foreign_load_are_marked_and_the_race_ends(tmp_path):
    result = run(tmp_path, {}, foreign_limit=-1.0, seconds=0.05, limit_seconds=0.1)
    assert result["pairs"] and not any(pair["quiet"] for pair in result["pairs"])
    assert all(pair["foreign"] >= 0 for pair in result["pairs"])


def test_a_candidate_that_raises_ends_the_race(tmp_path):
    result = run(tmp_path, kernel(tmp_path, "def relu_squared(x):\n    raise RuntimeError('no such shape')\n"))
    assert result["failed"] == "RuntimeError: no such shape" and result["pairs"] == []


def test_a_kernel_whose_work_another_one_does_is_seen_not_to_be_called(tmp_path):
    both = kernel(tmp_path, SLOW.format(0))
    both["mlp"] = installed_kernel("mlp", "torch_library").to_json()
    with torch.compiler.set_stance("force_eager"):
        calls = run(tmp_path, both)["calls"]
    assert calls["candidate"]["relu_squared"] == 0 < calls["candidate"]["mlp"]
    assert calls["baseline"]["relu_squared"] == calls["baseline"]["mlp"] > 0


def test_the_baselines_own_error_is_not_blamed_on_the_candidate(tmp_path):
    broken = kernel(tmp_path, "def relu_squared(x):\n    raise RuntimeError('no such shape')\n")
    with pytest.raises(RuntimeError, match="no such shape"):
        run(tmp_path, {}, baseline=broken)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import torch\ntorch.set_flush_denormal(True)\n", "on loading: subnormals kept"),
        ("import torch\ntorch.rand(1)\n", "on loading: random state"),
    ],
)
def test_what_a_candidate_changes_on_loading_is_named(tmp_path, code, found):
    try:
        result = run(tmp_path, kernel(tmp_path, code + "def relu_squared(x):\n    return torch.relu(x).square()\n"))
    finally:
        torch.set_flush_denormal(False)
    assert result["environment"][0].startswith(found) and result["pairs"] == []


def test_what_a_candidate_changes_in_a_step_is_named(tmp_path):
    code = "import torch\ndef relu_squared(x):\n    torch.rand(1)\n    return torch.relu(x).square()\n"
    result = run(tmp_path, kernel(tmp_path, code))
    assert result["environment"][0].startswith("by the candidate's steps: random state")
