"""Weights and exact checkpoints: 2N steps equal N, save, load, N, bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autoresearch_cuda.checkpoint import (
    load_checkpoint,
    load_model,
    load_weights,
    save_weights,
    take_snapshot,
    write_snapshot,
)
from autoresearch_cuda.evaluate import BatchLosses
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.train import Trainer
from autoresearch_trainer.checkpoint import weights_metadata
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.evaluate import evaluate_bpb


def save_checkpoint(trainer: Trainer, folder: Path, extra: dict | None = None) -> None:
    write_snapshot(take_snapshot(trainer, extra or {}), folder)


def test_weights_round_trip_under_their_exchange_names(config, dataset, tmp_path: Path):
    trainer = Trainer(config, Ops.baseline(), dataset)
    trainer.step()
    save_weights(trainer.model, tmp_path / "w.safetensors")
    tensors = load_weights(tmp_path / "w.safetensors")
    assert {"transformer.wte.weight", "transformer.h.0.attn.c_q.weight", "transformer.h.0.attn.ve_gate.weight"} <= set(
        tensors
    )
    assert {"transformer.h.2.mlp.c_fc.weight", "lm_head.weight", "resid_lambdas", "x0_lambdas"} <= set(tensors)
    assert tensors["value_embeds.2.weight"].dtype == torch.bfloat16
    model = load_model(tmp_path / "w.safetensors", Ops.baseline())
    assert model.config == config.model
    loaded, saved = (evaluate_bpb(BatchLosses(m, 2), dataset, 2, 32, 256) for m in (model, trainer.model))
    assert loaded == saved


def test_unreadable_weights_are_one_clear_error(tmp_path: Path):
    (tmp_path / "w.safetensors").write_bytes(b"not tensors")
    for path in (tmp_path / "w.safetensors", tmp_path / "missing"):
        with pytest.raises(ConfigError, match="cannot read weights from"):
            load_model(path, Ops.baseline())


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(config, dataset, tmp_path: Path):
    straight = Trainer(config, Ops.baseline(), dataset)
    losses = [straight.step().loss for _ in range(14)]

    first = Trainer(config, Ops.baseline(), dataset)
    resumed_losses = [first.step().loss for _ in range(7)]
    save_checkpoint(first, tmp_path / "checkpoint", {"note": [1, 2]})
    first.step()  # what happens after the save has no part in it

    second = Trainer(config, Ops.baseline(), dataset)
    second.step()
    assert load_checkpoint(second, tmp_path / "checkpoint") == {"note": [1, 2]}
    resumed_losses += [second.step().loss for _ in range(7)]
    assert resumed_losses == losses and second.finished
    for (name, a), b in zip(second.model.named_parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(a, b), name
    for (name, a), b in zip(second.optimizer.state().items(), straight.optimizer.state().values(), strict=True):
        assert torch.equal(a, b), name
    assert second.loader.state() == straight.loader.state()


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(config, dataset, tmp_path: Path):
    folder = tmp_path / "checkpoint"
    trainer = Trainer(config, Ops.baseline(), dataset)
    trainer.step()
    save_checkpoint(trainer, folder)
    longer = Trainer(replace(config, steps=99), Ops.baseline(), dataset)
    load_checkpoint(longer, folder)
    assert longer.steps_done == 1
    with pytest.raises(ConfigError, match="made with another seed, matrix_lr"):
        load_checkpoint(Trainer(replace(config, seed=9, matrix_lr=0.1), Ops.baseline(), dataset), folder)
    (tensors,) = folder.glob("tensors-*.safetensors")
    whole = tensors.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle] + b"\xff" * 64 + whole[middle + 64 :], whole[:middle], b""):
        tensors.write_bytes(damaged)
        with pytest.raises(ConfigError, match=f"no usable checkpoint in .*: {tensors.name} is not what was saved"):
            load_checkpoint(trainer, folder)
    tensors.write_bytes(whole)
    load_checkpoint(trainer, folder)
    state = folder / "state.json"
    state.write_text(state.read_text().replace('"steps_done": 1', '"steps_done": 2'))
    with pytest.raises(ConfigError, match="no usable checkpoint"):
        load_checkpoint(trainer, folder)
    with pytest.raises(ConfigError, match="no usable checkpoint"):
        load_checkpoint(trainer, tmp_path / "missing")


def test_weights_that_name_no_dtype_of_a_model_are_refused(config, tmp_path: Path):
    nested = {"config": "[" * 5000, "compute_dtype": "float32"}
    for metadata in (weights_metadata(config.model, "os"), nested, None):
        save_file({"x": torch.ones(2)}, tmp_path / "w.safetensors", metadata)
        with pytest.raises(ConfigError, match="w.safetensors does not say which model its weights belong to"):
            load_model(tmp_path / "w.safetensors", Ops.baseline())
