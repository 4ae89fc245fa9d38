"""Checks of a whole training: it computes the same to the last bit, and what is wrong is found, in both modes."""

import json
import random
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from autoresearch_cuda import engine
from autoresearch_cuda.kernel_files import Ops
from autoresearch_trainer.errors import KernelWrong
from autoresearch_trainer.kernel_files import TARGETS, KernelFile
from autoresearch_trainer.loop import run
from autoresearch_trainer.sampling import Sampler
from autoresearch_trainer.summary import summary_lines

RIGHT = "import torch\ndef relu_squared(x):\n    y = torch.relu(x)\n    return y * y\n"
WRONG = "import torch\ndef relu_squared(x):\n    y = torch.relu(x)\n    return 1.02 * y * y\n"


@pytest.fixture
def planted(tmp_path):
    def plant(code, target="relu_squared"):
        path = tmp_path / f"{target}_planted.py"
        path.write_text(code)
        return {target: KernelFile.at(target, path)}

    return plant


def trained(config, dataset, selection, rate, only=None, steps=3):
    """(losses, parameters, checks) of a few steps; without checks where the rate is None."""
    checks = engine.checks(selection, Sampler(rate), "cpu", only) if rate is not None else None
    trainer = engine.Trainer(config, engine.Ops.load(selection, checks.wrap if checks else None), dataset)
    if checks is None:
        losses = [trainer.step().loss for _ in range(steps)]
    else:
        checks.begin(trainer)
        losses = []
        for _ in range(steps):
            with checks.step():
                losses.append(trainer.step().loss)
        checks.end()
    return losses, [p.detach().clone() for p in trainer.model.parameters()], checks


def test_an_eager_training_is_the_same_to_the_last_bit_and_draws_no_random_number(config, dataset):
    selection = dict(Ops.baseline().kernels)
    torch.manual_seed(0)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    plain, weights, _ = trained(config, dataset, selection, None)
    for rate in (1.0, 0.5):
        losses, checked, checks = trained(config, dataset, selection, rate, only=TARGETS)
        assert losses == plain
        assert all(torch.equal(one, other) for one, other in zip(weights, checked, strict=True))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_every_baseline_is_right_by_its_own_contract(config, dataset):
    _, _, checks = trained(config, dataset, dict(Ops.baseline().kernels), 1.0, only=TARGETS)
    found = checks.record()
    assert found["wrong"] is None and found["steps"] == 3 and found["looks"] > 3
    for target, one in found["targets"].items():
        assert one["checked"] == one["calls"] > 0, target
        assert one["elements"] > 0 and one["worst"] <= 1.0, target


def test_a_compiled_training_is_checked_forward_and_backward(config, dataset, planted, monkeypatch):
    # The graphs are what Inductor would be given; what it makes of them, exploits/test_in_place.py tries.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    compiled = replace(config, compile=True, model=replace(config.model, n_layer=2))  # each layer is compiled anew
    _, _, checks = trained(compiled, dataset, planted(RIGHT), 1.0)
    one = checks.record()["targets"]["relu_squared"]
    # Two layers, two passes, three steps; a result and a gradient of 2 x 32 x 128 elements each.
    assert one["calls"] == one["checked"] == 2 * 2 * 3
    assert one["elements"] == 12 * 2 * 2 * 32 * 128 and one["worst"] <= 1.0
    one_layer = replace(compiled, model=replace(config.model, n_layer=1))
    with pytest.raises(KernelWrong, match="result y"):
        trained(one_layer, dataset, planted(WRONG), 1.0)


def test_what_the_compiler_sets_is_no_kernels_doing(config, dataset, planted):
    """Inductor lets calls be deeper in its first compilation, and adds a folder to the end of the import path."""

    depth, path = sys.getrecursionlimit(), list(sys.path)
    sets = f"def relu_squared(x):\n    sys.setrecursionlimit({depth + 1000})\n    sys.path.append('x')\n"
    try:
        trained(config, dataset, planted("import sys\n" + RIGHT.replace("def relu_squared(x):\n", sets)), 1.0)
        assert sys.getrecursionlimit() > depth
    finally:
        sys.setrecursionlimit(depth)
        sys.path[:] = path


def test_baseline_kernels_are_not_checked(config, dataset, planted):
    _, _, checks = trained(config, dataset, {**Ops.baseline().kernels, **planted(RIGHT)}, 1.0)
    assert set(checks.record()["targets"]) == {"relu_squared"}


def test_a_wrong_kernel_ends_a_run_in_one_line(config, dataset, tmp_path, planted):
    with pytest.raises(KernelWrong) as caught:
        run(engine, config, planted(WRONG), dataset, tmp_path / "out", check_rate=1.0)
    line = str(caught.value)
    assert caught.value.exit_code == 1 and "\n" not in line
    assert "relu_squared=relu_squared_planted is wrong in training: call 1 of it, in step 1: result y" in line
    assert "error" in line and "allowed" in line
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "failed" and record["error"] == line == record["checked"]["wrong"]


def test_a_checked_run_says_what_was_compared_and_what_it_cost(config, dataset, tmp_path, planted):
    record = run(engine, config, planted(RIGHT), dataset, tmp_path / "out", check_rate=1.0)
    one = record["checked"]["targets"]["relu_squared"]
    assert one["checked"] == one["calls"] == 3 * (2 * 14 + 4)  # the evaluation's calls count, too
    assert one["bound"] == pytest.approx(3 / one["checked"])
    lines = [line for line in summary_lines(record) if line.startswith("checked:")]
    assert f"{one['checked']} of {one['calls']} calls checked" in lines[0] and "of the steps' time" in lines[-1]
    nothing = run(engine, config, None, dataset, tmp_path / "other", check_rate=1.0)
    assert any("nothing: every kernel is the baseline's" in line for line in summary_lines(nothing))


def test_a_missing_gradient_is_found(config, dataset, planted):
    code = RIGHT.replace("torch.relu(x)", "torch.relu(x.detach())")
    with pytest.raises(KernelWrong, match="its results carry no gradient of x"):
        trained(config, dataset, planted(code), 1.0)


def test_a_nan_is_found_before_the_loss_shows_it(config, dataset, planted):
    with pytest.raises(KernelWrong, match="NaN or infinite"):
        trained(config, dataset, planted("def relu_squared(x):\n    return x * float('nan')\n"), 1.0)


def test_a_kernel_that_is_wrong_in_the_evaluation_alone_ends_the_run(config, dataset, tmp_path, planted):
    code = RIGHT.replace("return y * y", "return y * y if torch.is_grad_enabled() else 1.02 * y * y")
    with pytest.raises(KernelWrong, match="relu_squared_planted is wrong in training: call .*result y"):
        run(engine, config, planted(code), dataset, tmp_path / "out", check_rate=1.0)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["checked"]["wrong"] is not None
