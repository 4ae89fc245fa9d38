"""Checks of a whole training of MLX: what is wrong is found, in both modes, and nothing else is."""

import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")

from autoresearch_data.build import prepare  # noqa: E402
from autoresearch_data.dataset import Manifest  # noqa: E402
from autoresearch_data.local import LocalCorpus  # noqa: E402
from autoresearch_lab.engine import ENGINES  # noqa: E402
from autoresearch_mlx import engine  # noqa: E402
from autoresearch_mlx.kernel_files import Ops  # noqa: E402
from autoresearch_trainer.errors import KernelWrong  # noqa: E402
from autoresearch_trainer.jobs.base import DatasetRef  # noqa: E402
from autoresearch_trainer.jobs.training import CHECK, CheckArgs, CheckedRun  # noqa: E402
from autoresearch_trainer.kernel_files import TARGETS, KernelFile  # noqa: E402
from autoresearch_trainer.loop import run  # noqa: E402
from autoresearch_trainer.sampling import Sampler  # noqa: E402

RIGHT = "import mlx.core as mx\ndef relu_squared(x):\n    y = mx.maximum(x, 0)\n    return y * y\n"
WRONG = RIGHT.replace("y * y", "1.02 * y * y")
GRADIENT = """
import mlx.core as mx

@mx.custom_function
def squared(x):
    return mx.maximum(x, 0).square()

@squared.vjp
def backward(x, cotangent, y):
    return 1.9 * mx.maximum(x, 0) * cotangent

def relu_squared(x):
    return squared(x)
"""
RARE = """
import mlx.core as mx
calls = 0

def relu_squared(x):
    global calls
    calls += 1
    y = mx.maximum(x, 0).square()
    return y * 1.1 if calls == 14 else y
"""
MOMENTUM = """
import mlx.core as mx
from autoresearch_mlx.kernel_files import INSTALLED
from autoresearch_trainer.kernel_files import load_kernel

adamw = load_kernel(INSTALLED.installed_kernel("adamw_update"))

def adamw_update(p, grad, m, v, step, lr, beta1, beta2, eps, weight_decay):
    return adamw(p, grad, m, v, step, lr, 0.99 * beta1, beta2, eps, weight_decay)
"""
SETTING = """
import gc
import mlx.core as mx

def relu_squared(x):
    for found in gc.get_objects():
        if type(found).__name__ == "MuonAdamW":
            found.weight_decay = 0.5
    return mx.maximum(x, 0).square()
"""
MODES = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


@pytest.fixture
def planted(tmp_path):
    def plant(code, target="relu_squared"):
        path = tmp_path / f"{target}_planted.py"
        path.write_text(code)
        return {target: KernelFile.at(target, path)}

    return plant


def trained(config, dataset, selection, rate=1.0, only=None, steps=3):
    """(losses, record of the checks) of a few steps."""
    checks = engine.checks(selection, Sampler(rate), "mlx", only)
    trainer = engine.Trainer(config, engine.Ops.load(selection, checks.wrap), dataset)
    checks.begin(trainer)
    losses = []
    for _ in range(steps):
        with checks.step():
            losses.append(trainer.step().loss)
    checks.end()
    return losses, checks.record()


@MODES
@pytest.mark.parametrize("tokens", [64, 128], ids=["one pass", "two passes"])
def test_every_baseline_is_right_by_its_own_contract(config, dataset, compiled, tokens):
    config = replace(config, compile=compiled, total_batch_tokens=tokens)
    losses, found = trained(config, dataset, dict(Ops.baseline().kernels), only=TARGETS)
    assert found["wrong"] is None and found["steps"] == 3
    for target, one in found["targets"].items():
        assert one["checked"] == one["calls"] > 0, target
        assert one["elements"] > 0 and one["worst"] <= 1.0, target
    plain = engine.Trainer(config, Ops.baseline(), dataset)
    np.testing.assert_allclose(losses, [plain.step().loss for _ in range(3)], rtol=1e-3)


@MODES
def test_results_and_gradients_of_the_sampled_calls_are_compared(config, dataset, planted, compiled):
    config = replace(config, compile=compiled)
    one = trained(config, dataset, planted(RIGHT))[1]["targets"]["relu_squared"]
    calls, size = one["calls"], config.batch_size * config.model.sequence_len * 4 * config.model.n_embd
    assert calls == one["checked"] > 0 and one["elements"] == calls * 2 * size and 0 < one["worst"] <= 1.0
    some = trained(config, dataset, planted(RIGHT), rate=0.5)[1]["targets"]["relu_squared"]
    assert some["calls"] == calls and 0 <= some["checked"] <= calls


@MODES
@pytest.mark.parametrize(
    ("code", "target", "said"),
    [(WRONG, "relu_squared", "result y"), (GRADIENT, "relu_squared", "gradient of x"),
     (RIGHT.replace("y * y", "y * float('nan')"), "relu_squared", "NaN or infinite"),
     (RIGHT.replace("y * y", "(y * y)[:1]"), "relu_squared", "shape"),
     (MOMENTUM, "adamw_update", "result exp_avg")],
    ids=["result", "gradient", "NaN", "shape", "optimizer"],
)  # fmt: skip
def test_what_is_wrong_is_named(config, dataset, planted, compiled, code, target, said):
    with pytest.raises(Exception, match=said) as caught:
        trained(replace(config, compile=compiled), dataset, planted(code, target))
    if said != "shape":  # where a sum broadcasts no longer, the step's own error may come first
        assert isinstance(caught.value, KernelWrong) and f"{target}={target}_planted" in str(caught.value)


def test_a_call_that_is_rarely_wrong_is_found_where_it_is_sampled(config, dataset, planted):
    # Six calls of a step, and each once more in its backward: the second of the second step.
    with pytest.raises(KernelWrong, match="call 8 of it, in step 2: result y"):
        trained(config, dataset, planted(RARE))


def test_settings_that_are_not_a_kernels_own_are_looked_at(config, dataset, planted):
    with pytest.raises(KernelWrong, match="weight decay was changed"):
        trained(config, dataset, planted(SETTING), rate=1e-9)


@MODES
def test_a_run_is_checked_its_evaluation_too(config, dataset, tmp_path, planted, compiled):
    config = replace(config, compile=compiled)
    record = run(engine, config, planted(RIGHT), dataset, tmp_path / "out", device="mlx", check_rate=1.0)
    one = record["checked"]["targets"]["relu_squared"]
    assert record["status"] == "complete" and one["checked"] == one["calls"] > 0
    with pytest.raises(KernelWrong, match="relu_squared_planted is wrong in training: call 1 of it, in step 1"):
        run(engine, config, planted(WRONG), dataset, tmp_path / "other", device="mlx", check_rate=1.0)


def test_a_kernel_that_is_wrong_in_the_evaluation_alone_ends_the_run(config, dataset, tmp_path, planted):
    steps = 2 * 3 * 2 * config.steps  # three layers, two passes, each once more by its backward
    code = RARE.replace("calls == 14", f"calls > {steps}")
    with pytest.raises(KernelWrong, match="relu_squared_planted is wrong in training"):
        run(engine, config, planted(code), dataset, tmp_path / "out", device="mlx", check_rate=1.0)


def test_an_ab_has_a_candidate_checked_in_a_process_of_its_own(tmp_path):
    library = Path(sysconfig.get_path("stdlib"))
    prepare(
        LocalCorpus("small", [library / f"{name}.py" for name in ("argparse", "ast", "typing", "tarfile")]), tmp_path
    )
    dataset = DatasetRef(folder=str(tmp_path), fingerprint=Manifest.read(tmp_path).fingerprint)
    target = "rms_norm"
    args = CheckArgs(
        preset="cpu-nano-d1-w64",
        dataset=dataset,
        selection={target: engine.Ops.installed.installed_kernel(target, "mlx_library")},
        targets=[target],
        runs=[CheckedRun(seed=1, steps=6, compile=False, share=1000.0)],
    )
    (found,) = ENGINES["mlx"].run(CHECK, args, run_dir=tmp_path / "run").runs
    assert found.failed is None and found.checked["wrong"] is None
    assert found.checked["targets"][target]["checked"] > 0 and 0 < found.checked["targets"][target]["worst"] <= 1.0
