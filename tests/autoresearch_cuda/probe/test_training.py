"""Jobs `train` and `evaluate`."""

import ctypes.util
import math
import platform
from types import SimpleNamespace

import pytest
import torch

from autoresearch_cuda.checkpoint import load_model
from autoresearch_cuda.evaluate import BatchLosses
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.model import GPT
from autoresearch_cuda.probe import JOBS, environment, training
from autoresearch_trainer.config import PRESETS, Preset
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.evaluate import evaluate_bpb
from autoresearch_trainer.jobs.base import DatasetRef
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.probe import training as shared
from autoresearch_trainer.probe.state import changes
from autoresearch_trainer.rungs import full_tokens

DATASET = {"folder": "nowhere", "fingerprint": "f" * 64}


@pytest.fixture(autouse=True)
def small_preset(monkeypatch, config, dataset):
    preset = Preset(config.model, config.batch_size, config.total_batch_tokens, config.eval_tokens)
    monkeypatch.setitem(PRESETS, "test", preset)
    monkeypatch.setattr(shared, "open_checked", lambda described: dataset)


def train(tmp_path, *runs, selection=None):
    messages = []
    args = {"preset": "test", "dataset": DATASET, "selection": selection or {}, "runs": list(runs)}
    result = JOBS["train"](args, tmp_path, messages.append)
    return {run["id"]: run for run in result["runs"]}, messages


def evaluate(tmp_path, run, **changes):
    weights = {"id": run["id"], "path": str(tmp_path / run["weights"]), "sha256": run["sha256"], **changes}
    args = {"preset": "test", "dataset": DATASET, "selection": {}, "weights": [weights]}
    return JOBS["evaluate"](args, tmp_path, lambda message: None)["evaluations"][0]


def kernel(tmp_path, target, code):
    path = tmp_path / f"{target}_planted.py"
    path.write_text(code)
    return {target: KernelFile.at(target, path).to_json()}


def test_training_is_repeatable_and_reported_run_by_run(tmp_path):
    runs, messages = train(
        tmp_path,
        {"id": "a", "seed": 1, "steps": 6, "save": True},
        {"id": "again", "seed": 1, "steps": 6, "stop": 3},
        {"id": "other", "seed": 2, "steps": 6, "stop": 3},
        {"id": "moved", "seed": 1, "steps": 6, "stop": 3, "one_ulp": True},
    )
    assert len(runs["a"]["losses"]) == 6 and runs["a"]["tokens"] == 6 * 128
    assert 0 < runs["a"]["peak_memory_mb"] <= runs["moved"]["peak_memory_mb"]  # of the process so far
    assert runs["again"]["losses"] == runs["a"]["losses"][:3]
    assert runs["other"]["losses"] != runs["again"]["losses"]
    moved = [abs(x - y) for x, y in zip(runs["moved"]["losses"], runs["again"]["losses"], strict=True)]
    assert max(moved) < 1e-2
    assert [m["run"]["id"] for m in messages if "run" in m] == ["a", "again", "other", "moved"]
    assert runs["a"]["environment"] == [] and runs["again"]["weights"] is None


def test_weights_are_evaluated_by_themselves(tmp_path):
    runs, _ = train(tmp_path, {"id": "a", "seed": 1, "steps": 6, "save": True})
    found = evaluate(tmp_path, runs["a"])
    assert found["id"] == "a" and 0 < found["val_bpb"] < 10 and found["tokens"] == 256
    assert evaluate(tmp_path, runs["a"]) == found


def test_an_evaluation_is_spread_over_the_split_as_in_a_run(tmp_path, config, dataset):
    runs, _ = train(tmp_path, {"id": "a", "seed": 1, "steps": 6, "save": True})
    model = load_model(tmp_path / runs["a"]["weights"], Ops.baseline())
    length, batch = config.model.sequence_len, config.batch_size
    whole = full_tokens(dataset, length, batch * length)
    assert whole > 256
    over = evaluate_bpb(BatchLosses(model, batch), dataset, batch, length, 256, spread_over=whole)
    assert evaluate(tmp_path, runs["a"])["val_bpb"] == over.val_bpb
    assert evaluate_bpb(BatchLosses(model, batch), dataset, batch, length, 256).val_bpb != over.val_bpb


def test_other_weights_are_refused(tmp_path):
    runs, _ = train(tmp_path, {"id": "a", "seed": 1, "steps": 2, "save": True})
    with pytest.raises(ConfigError, match="not what the training process saved"):
        evaluate(tmp_path, runs["a"], sha256="0" * 64)


def test_a_kernel_that_destroys_the_loss_is_reported_not_raised(tmp_path):
    code = "def relu_squared(x):\n    return x * float('nan')\n"
    runs, _ = train(tmp_path, {"id": "a", "seed": 1, "steps": 4, "save": True},
                    selection=kernel(tmp_path, "relu_squared", code))  # fmt: skip
    assert "loss is nan" in runs["a"]["failed"] and runs["a"]["weights"] is None


def test_a_change_of_the_environment_is_reported(tmp_path):
    code = (
        "import torch\n"
        "torch.set_num_threads(torch.get_num_threads() + 1)\n"
        "def relu_squared(x):\n    return torch.relu(x).square()\n"
    )
    before = torch.get_num_threads()
    try:
        runs, _ = train(tmp_path, {"id": "a", "seed": 1, "steps": 1}, selection=kernel(tmp_path, "relu_squared", code))
    finally:
        torch.set_num_threads(before)
    assert [text.partition(":")[0] for text in runs["a"]["environment"]] == ["threads", "torch._C.get_num_threads"]


def test_flush_to_zero_is_seen():
    before = environment.snapshot()
    assert before["subnormals kept (torch threads)"]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush to zero")
    try:
        changed = changes(before, environment.snapshot())
    finally:
        torch.set_flush_denormal(False)
    assert any("subnormals" in text for text in changed)
    assert changes(before, environment.snapshot()) == []


@pytest.mark.parametrize("mode", [0x400, 0x800, 0xC00], ids=["down", "up", "towards zero"])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the modes are another processor's")
def test_another_rounding_is_seen(mode):
    before = environment.snapshot()
    assert before["rounds to nearest (torch threads)"]
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    libm.fesetround(mode)
    try:
        changed = changes(before, environment.snapshot())
    finally:
        libm.fesetround(0)
    named = {text.split(":")[0] for text in changed}
    assert {"rounds to nearest (torch threads)", "rounding mode"} <= named
    assert changes(before, environment.snapshot()) == []


def test_drawing_random_numbers_is_seen():
    before = environment.snapshot()
    torch.rand(1)
    assert [text.split(":")[0] for text in changes(before, environment.snapshot())] == ["random state"]


def test_one_ulp_moves_float32_to_a_neighbour_and_nothing_else(config):
    model = GPT(config.model, Ops.baseline(), torch.bfloat16, torch.device("cpu"))
    model.init_weights(0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training.move_one_ulp(model, seed=5)
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            assert torch.equal(parameter, before[name])
            continue
        up = torch.nextafter(before[name], torch.tensor(math.inf))
        down = torch.nextafter(before[name], torch.tensor(-math.inf))
        assert bool(((parameter == up) | (parameter == down)).all()), name


def test_a_changed_dataset_is_refused(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(shared, "open_dataset", lambda folder: SimpleNamespace(fingerprint="e" * 64))
    with pytest.raises(ConfigError, match="changed"):
        shared.open_checked(DatasetRef(**DATASET))


def test_a_widened_kernel_rounds_once_and_keeps_its_dtypes():
    def there_and_back(x, step):
        return (x + step) - step

    x = torch.tensor([1.0078125], dtype=torch.bfloat16)
    found = training.widened(there_and_back)(x, 256.0)
    assert found.dtype == torch.bfloat16 and found == x and there_and_back(x, 256.0) != x
    state = torch.ones(3)
    training.widened(lambda p: p.add_(1))(state)
    assert state.tolist() == [2, 2, 2]  # an optimizer's step happens once, in place
