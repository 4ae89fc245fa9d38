"""Estimates of memory, the batch that fits, and what is said when memory runs out."""

from dataclasses import replace

import pytest
import torch

from autoresearch_cuda import engine
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.model import GPT
from autoresearch_trainer import memory
from autoresearch_trainer.config import PRESETS, TrainConfig, preset
from autoresearch_trainer.errors import ConfigError, OutOfMemory

GIB = 2**30


def fit(name: str, device: str, gigabytes: float, **changes):
    config = TrainConfig.for_preset(name, **changes)
    return memory.fit_batch(config, preset(name), device, int(gigabytes * GIB))


@pytest.mark.parametrize(("name", "length"), [("cpu-nano", None), ("cpu-tiny", None), ("m5-xlarge", 256)])
def test_the_estimate_per_token_is_what_autograd_keeps_and_the_loss_takes(name: str, length: int | None):
    """Counted on one sequence: every tensor saved for the backward pass, once per storage. The loss's gradient and
    temporaries, which come on top, are half of its share of the estimate."""
    shape = replace(PRESETS[name].model, n_layer=2)
    shape = replace(shape, sequence_len=length) if length else shape
    model = GPT(shape, Ops.baseline())
    model.init_weights(0)
    parameters = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    idx = torch.zeros(1, shape.sequence_len, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(idx, idx)
    assert loss.requires_grad
    casts = sum(2 * p.numel() for p in model.parameters() if p.dtype == torch.float32)
    counted = (sum(kept.values()) - casts) / shape.sequence_len
    estimate = memory.bytes_per_token(shape, "cpu", compiled=False)
    expected = estimate - shape.vocab_size * memory.LOSS_EAGER + 8 * shape.vocab_size
    assert 0.75 * counted < expected < 1.35 * counted


def test_the_published_peak_of_the_data_centre_batch_is_met():
    """45,060 MiB on one H100 with 128 sequences, compiled."""
    config = TrainConfig.for_preset("upstream", batch_size=128, total_batch_tokens=2**19, compile=True)
    assert 0.9 * 45_060 < memory.estimate_bytes(config, "cuda") / 2**20 < 1.3 * 45_060


def test_the_presets_batch_is_kept_where_it_fits():
    found = fit("cpu-nano", "cpu", 16)
    assert found.config.batch_size == found.config.eval_batch_size == 8 and found.why == "the preset's"
    assert found.estimate < 2 * GIB


def test_a_small_memory_gets_a_smaller_batch_and_more_accumulation():
    found = fit("upstream", "cpu", 8)
    config = found.config
    assert config.batch_size < 8 and config.total_batch_tokens == 65536
    assert config.accumulation * config.micro_batch_tokens == 65536
    assert "smaller than the preset's 8" in found.why and config.eval_batch_size == 8
    assert found.estimate <= 0.85 * 8 * GIB


def test_a_gpu_gets_larger_batches_up_to_the_step_or_the_data_centre():
    small = fit("m5-small", "cuda", 24).config
    assert (small.batch_size, small.accumulation, small.eval_batch_size) == (24, 1, 4)
    desktop = fit("upstream", "cuda", 24).config
    assert desktop.batch_size == 16 and desktop.total_batch_tokens == 65536
    centre = fit("upstream", "cuda", 139, compile=True).config
    assert (centre.batch_size, centre.total_batch_tokens, centre.accumulation) == (128, 2**19, 2)


def test_what_does_not_fit_at_all_is_refused_before_anything_is_allocated():
    with pytest.raises(ConfigError, match="needs about .* GiB even with one sequence .* 1.0 GiB are free"):
        fit("upstream", "cpu", 1)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_running_out_names_the_batch_that_would_fit(error: Exception, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "available_bytes", lambda device: 2 * GIB)
    monkeypatch.setattr(engine, "own_bytes", lambda device: 4 * GIB)
    config = TrainConfig.for_preset("upstream")
    with pytest.raises(OutOfMemory, match=r"batch of 8 sequences .*; --batch-size [124] should fit") as caught:
        with memory.explained(engine, config, "cpu"):
            raise error
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    with pytest.raises(OutOfMemory, match="take a smaller preset"):
        with memory.explained(engine, replace(config, batch_size=1), "cpu"):
            raise error


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="shapes differ"), memory.explained(engine, TrainConfig(), "cpu"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_evaluation_takes_no_more_than_training(name: str, compiled: bool):
    config = TrainConfig.for_preset(name, compile=compiled)
    rows = memory.evaluation_rows(config, "cpu")
    assert 1 <= rows <= config.batch_size
    training = config.batch_size * memory.bytes_per_token(config.model, "cpu", compiled)
    assert rows == 1 or rows * memory.evaluation_bytes_per_token(config.model) <= training
