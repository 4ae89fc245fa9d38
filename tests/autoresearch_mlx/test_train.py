"""The MLX trainer: it learns, repeats itself bit for bit, compiled and accumulated steps are the plain one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")


from autoresearch_mlx import engine  # noqa: E402
from autoresearch_mlx.arrays import to_numpy  # noqa: E402
from autoresearch_mlx.checkpoint import load_checkpoint, take_snapshot, write_snapshot  # noqa: E402
from autoresearch_mlx.evaluate import BatchLosses  # noqa: E402
from autoresearch_mlx.kernel_files import CallCounter, Ops  # noqa: E402
from autoresearch_mlx.train import Trainer  # noqa: E402
from autoresearch_trainer.errors import ConfigError, KernelChanged, TrainingFailed  # noqa: E402
from autoresearch_trainer.evaluate import evaluate_bpb  # noqa: E402
from autoresearch_trainer.kernel_files import TARGETS, KernelFile  # noqa: E402
from autoresearch_trainer.loop import run  # noqa: E402
from autoresearch_trainer.summary import summary_lines  # noqa: E402


def save_checkpoint(trainer: Trainer, folder: Path, extra: dict | None = None) -> None:
    write_snapshot(take_snapshot(trainer, extra or {}), folder)


def losses(config, dataset, steps=6, ops=None):
    trainer = Trainer(config, ops or Ops.baseline(), dataset)
    return [trainer.step().loss for _ in range(steps)], trainer


def test_it_learns_and_repeats_itself_bit_for_bit(config, dataset):
    first, trainer = losses(replace(config, steps=40), dataset, 40)
    assert first[0] == pytest.approx(np.log(64), abs=0.1) and first[-1] < first[0] - 0.5
    again, _ = losses(replace(config, steps=40), dataset, 6)
    assert again == first[:6]
    assert trainer.model.params["transformer.wte.weight"].dtype == mx.bfloat16
    assert trainer.model.params["lm_head.weight"].dtype == mx.float32


@pytest.mark.parametrize("tokens", [64, 128])
def test_a_compiled_step_is_the_plain_one(config, dataset, tokens):
    """Schedules are arrays: a number would be frozen into the compiled step, and the third step would differ."""
    config = replace(config, total_batch_tokens=tokens, compute_dtype="float32", steps=4)
    plain, _ = losses(config, dataset, 4)
    compiled, _ = losses(replace(config, compile=True), dataset, 4)
    np.testing.assert_allclose(compiled, plain, rtol=2e-5)


def test_accumulation_adds_up_to_the_large_batch(config, dataset):
    config = replace(config, compute_dtype="float32")
    small = Trainer(config, Ops.baseline(), dataset)
    model, (inputs, targets) = small.model, small.batch
    _, whole = small._loss_and_grads(model.params, inputs, targets)
    parts = [small._loss_and_grads(model.params, inputs[i : i + 1], targets[i : i + 1])[1] for i in range(2)]
    name = "transformer.h.1.mlp.c_fc.weight"
    assert np.allclose(
        to_numpy(whole["lm_head.weight"]),
        to_numpy((parts[0]["lm_head.weight"] + parts[1]["lm_head.weight"]) / 2),
        atol=1e-6,
    )
    assert whole[name].shape == parts[0][name].shape
    small.step()
    assert small.grads is not None and set(small.grads) == set(model.params)


def test_a_loss_that_is_not_a_number_stops_the_run(config, dataset):
    trainer = Trainer(config, Ops.baseline(), dataset)
    trainer.model.params["lm_head.weight"] = mx.full((64, 32), mx.nan)
    with pytest.raises(TrainingFailed, match="loss is nan at step 0; largest gradient: "):
        trainer.step()


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(config, dataset, tmp_path: Path):
    straight, reference = losses(config, dataset, 8)
    first = Trainer(config, Ops.baseline(), dataset)
    found = [first.step().loss for _ in range(4)]
    save_checkpoint(first, tmp_path / "checkpoint", {"note": [1]})
    first.step()
    second = Trainer(config, Ops.baseline(), dataset)
    second.step()
    assert load_checkpoint(second, tmp_path / "checkpoint") == {"note": [1]}
    assert found + [second.step().loss for _ in range(4)] == straight
    for name, value in reference.model.params.items():
        assert mx.array_equal(value, second.model.params[name]), name
    for name, value in reference.optimizer.state.items():
        assert mx.array_equal(value, second.optimizer.state[name]), name


def test_a_checkpoint_of_another_run_is_refused(config, dataset, tmp_path: Path):
    trainer = Trainer(config, Ops.baseline(), dataset)
    save_checkpoint(trainer, tmp_path / "c")
    with pytest.raises(ConfigError, match="made with another seed"):
        load_checkpoint(Trainer(replace(config, seed=9), Ops.baseline(), dataset), tmp_path / "c")
    with pytest.raises(ConfigError, match="no usable checkpoint"):
        load_checkpoint(trainer, tmp_path / "missing")


# float32, so that the compiled functions are those of the test above: the CPU build compiles each with g++.
@pytest.mark.parametrize("compiled", [False, True])
def test_every_call_goes_through_the_seam_and_is_counted(config, dataset, compiled):
    counter = CallCounter()
    config = replace(config, compile=compiled, compute_dtype="float32", steps=4)
    trainer = Trainer(config, Ops.load(None, counter), dataset)
    trainer.step()
    trainer.step()
    calls = counter.traced if compiled else counter.eager
    assert all(calls[target] > 0 for target in TARGETS)
    assert sum((counter.eager if compiled else counter.traced).values()) == 0
    passes = 2 if compiled else 2 * config.accumulation  # each of the two kinds of pass is traced once
    assert calls["softcap_cross_entropy"] == passes


def test_a_selected_kernel_is_used_and_an_edited_one_refused(config, dataset, tmp_path: Path):
    path = tmp_path / "kernel.py"
    path.write_text("def relu_squared(x):\n    raise RuntimeError('called')\n")
    file = KernelFile.at("relu_squared", path)
    with pytest.raises(RuntimeError, match="called"):
        Trainer(config, Ops.load({"relu_squared": file}), dataset).step()
    path.write_text("def relu_squared(x):\n    return x\n")
    with pytest.raises(KernelChanged):
        Ops.load({"relu_squared": file})


def test_evaluation_does_not_depend_on_how_the_rows_are_grouped(config, dataset):
    trainer = Trainer(replace(config, compute_dtype="float32"), Ops.baseline(), dataset)
    whole = evaluate_bpb(BatchLosses(trainer.model, 4), dataset, 4, 32, 512)
    pieces = evaluate_bpb(BatchLosses(trainer.model, 1), dataset, 4, 32, 512)
    assert whole.val_bpb == pytest.approx(pieces.val_bpb, rel=1e-6) and whole.tokens == pieces.tokens == 512


def test_a_whole_run_writes_its_record(config, dataset, tmp_path: Path):
    record = run(engine, config, None, dataset, tmp_path, device="mlx", weights=True, checkpoint=True)
    assert record["status"] == "complete" and record["summary"]["num_steps"] == 14
    assert record["device"]["kind"] == "mlx" and record["device"]["backend"] in ("cpu", "metal")
    assert (tmp_path / "weights.safetensors").is_file() and (tmp_path / "checkpoint" / "state.json").is_file()
    lines = summary_lines(record)
    assert lines[0] == "---" and any(line.startswith("kernel:") and "rms_norm=mlx_eager" in line for line in lines)
