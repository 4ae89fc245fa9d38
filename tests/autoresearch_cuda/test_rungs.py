"""The rungs of the evaluation: their sizes, their rows, and pieces that shrink when memory runs out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoresearch_cuda import engine
from autoresearch_cuda.evaluate import BatchLosses
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.train import Trainer
from autoresearch_data.packing import BestFitLoader
from autoresearch_trainer.config import PRESETS, GPTConfig, TrainConfig
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.evaluate import evaluate_bpb, evaluate_rows, evaluate_rungs, spread
from autoresearch_trainer.loop import run
from autoresearch_trainer.rungs import RUNGS, limited, one_pass, rung_tokens


@pytest.fixture(scope="module")
def model(dataset):
    shape = GPTConfig(32, 64, n_layer=1, n_head=2, n_kv_head=2, n_embd=32, window_pattern="L")
    config = TrainConfig("test", shape, 2, 64, eval_tokens=256, time_budget=None, steps=9, compute_dtype="float32")
    trainer = Trainer(config, Ops.baseline(), dataset)
    for _ in range(5):
        trainer.step()
    return trainer.model


def test_sizes_rise_and_the_full_one_is_the_published():
    for preset in PRESETS.values():
        sizes = [rung_tokens(preset, rung) for rung in RUNGS]
        assert sizes == sorted(sizes) and sizes[-1] == 20_971_520
    assert rung_tokens(PRESETS["cpu-nano"], "reference") == 204_800 == PRESETS["cpu-nano"].eval_tokens
    assert PRESETS["upstream"].eval_tokens == 20_971_520
    with pytest.raises(ConfigError, match="unknown evaluation 'big'; known: cheap, reference, full"):
        rung_tokens(PRESETS["cpu-nano"], "big")


def test_one_pass_ends_with_the_documents(dataset):
    split = dataset.split("val")
    total = int(split.ids.size) + len(split)
    tokens = one_pass(dataset, 32, 10**9)
    loader = BestFitLoader(split, 1, 32, dataset.tokenizer.bos_id)
    for _ in range(tokens // 32):
        next(loader)
    assert loader.tokens_placed + loader.tokens_cropped <= total
    assert one_pass(dataset, 32, 320) == 320
    assert limited(1000, 500, 64) == 448 and limited(1000, 5000, 64) == 960 and limited(10, 5, 64) == 64


def test_spread_rows_are_distinct_and_equally_far_apart():
    assert spread(4, 4) == [0, 1, 2, 3] and spread(3, 10) == [0, 3, 6]
    rows = spread(96, 1152)
    assert len(set(rows)) == 96 and set(np.diff(rows)) == {12}


def test_rungs_are_what_single_evaluations_give(model, dataset):
    sizes = {"cheap": 128, "reference": 512, "full": 1024}
    rungs = evaluate_rungs(BatchLosses(model, 2), dataset, 2, 32, sizes)
    for name, tokens in sizes.items():
        alone = evaluate_bpb(BatchLosses(model, 2), dataset, 2, 32, tokens, spread_over=1024)
        assert rungs[name].val_bpb == pytest.approx(alone.val_bpb, rel=1e-6)
        assert (rungs[name].tokens, rungs[name].bytes) == (alone.tokens, alone.bytes)
    assert rungs["full"] == evaluate_bpb(BatchLosses(model, 2), dataset, 2, 32, 1024)


def test_rows_do_not_depend_on_the_batch(model, dataset):
    """The fitted batch changes how rows are grouped, never which are read."""
    two, eight = (evaluate_rows(BatchLosses(model, size), dataset, size, 32, range(16)) for size in (2, 8))
    np.testing.assert_array_equal(two.bytes, eight.bytes)
    np.testing.assert_allclose(two.nats, eight.nats, rtol=1e-5)


def test_the_standard_error_is_that_of_resampled_rows(model, dataset):
    rows = evaluate_rows(BatchLosses(model, 8), dataset, 8, 32, range(64))
    rng = np.random.default_rng(0)
    draws = [rows.result(rng.integers(0, 64, 64)).val_bpb for _ in range(400)]
    assert rows.result().standard_error == pytest.approx(np.std(draws), rel=0.2)


@pytest.mark.parametrize("limit", [3, 1])
def test_pieces_shrink_until_they_fit(model, dataset, limit: int, monkeypatch: pytest.MonkeyPatch):
    expected, sizes, forward = evaluate_bpb(BatchLosses(model, 8), dataset, 8, 32, 512), [], type(model).forward

    def small_memory(self, idx, targets=None, reduction="mean"):
        sizes.append(len(idx))
        if len(idx) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, idx, targets, reduction)

    monkeypatch.setattr(type(model), "forward", small_memory)
    found = evaluate_bpb(BatchLosses(model, 8), dataset, 8, 32, 512)
    assert found.val_bpb == pytest.approx(expected.val_bpb, rel=1e-6) and found.bytes == expected.bytes
    assert sizes[:3] == [8, 4, 2] and max(sizes[4:]) <= limit
    monkeypatch.setattr(type(model), "forward", lambda *args, **kwargs: small_memory(model, torch.zeros(9, 1)))
    with pytest.raises(torch.OutOfMemoryError):
        evaluate_bpb(BatchLosses(model, 8), dataset, 8, 32, 512)


def test_a_run_evaluates_in_its_presets_batches_whatever_its_own(config, dataset, tmp_path):
    small = replace(config, batch_size=1, eval_batch_size=2, eval_tokens=200, steps=1)
    assert run(engine, small, None, dataset, tmp_path)["evaluation"]["tokens"] == 192
