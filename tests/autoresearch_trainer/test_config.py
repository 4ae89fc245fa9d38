"""Presets and the checks on a configuration."""

import json

import pytest

from autoresearch_trainer.config import PRESETS, GPTConfig, TrainConfig, parse_changes, preset, reshaped_name
from autoresearch_trainer.errors import ConfigError

SHAPES = {  # T, depth, width, heads, batch, tokens per step
    "cpu-nano": (256, 2, 128, 1, 8, 2048),
    "cpu-tiny": (512, 4, 256, 2, 4, 2048),
    "m5-tiny": (256, 2, 128, 1, 4, 12288),
    "m5-small": (512, 4, 256, 2, 4, 12288),
    "m5-balanced": (1024, 6, 384, 3, 4, 12288),
    "m5-large": (512, 8, 512, 4, 4, 16384),
    "m5-xlarge": (2048, 8, 512, 4, 4, 16384),
    "upstream": (2048, 8, 512, 4, 8, 65536),
}


def test_presets_have_the_published_shapes():
    assert set(PRESETS) == set(SHAPES)
    for name, (seq, depth, width, heads, batch, tokens) in SHAPES.items():
        config = TrainConfig.for_preset(name)
        m = config.model
        assert (m.sequence_len, m.n_layer, m.n_embd, m.n_head, m.n_kv_head) == (seq, depth, width, heads, heads), name
        assert m.head_dim == 128 and m.vocab_size == 8192
        assert (config.batch_size, config.total_batch_tokens) == (batch, tokens)
        assert config.accumulation == tokens // (batch * seq)


def test_a_name_says_another_shape_of_a_preset():
    config = TrainConfig.for_preset("cpu-nano-d3-w256-t1024")
    model = config.model
    assert (model.n_layer, model.n_embd, model.n_head, model.sequence_len) == (3, 256, 2, 256)
    assert (config.batch_size, config.total_batch_tokens, config.eval_batch_tokens) == (4, 1024, 2048)
    assert config.preset == "cpu-nano-d3-w256-t1024" == reshaped_name("cpu-nano", 3, 256, 1024)
    assert preset("cpu-nano-t6144").batch_size == 8 and preset("m5-small-w384").model.n_head == 3
    assert preset(reshaped_name("cpu-nano", 2, 128, 2048)) is PRESETS["cpu-nano"]
    assert preset("upstream-d6").data_centre and preset(reshaped_name("upstream", 8, 512, 65536)).data_centre is None


def test_steps_take_the_place_of_the_time_budget():
    assert TrainConfig.for_preset("cpu-nano").time_budget == 300
    config = TrainConfig.for_preset("cpu-nano", steps=7)
    assert (config.steps, config.time_budget) == (7, None)
    assert config.smoke().steps == 2 and config.smoke().eval_tokens == 2048


def test_json_round_trip():
    config = TrainConfig.for_preset("m5-large", seed=5, compile=True)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: preset("cpu-nano-t1000"), "1000 tokens per step are no multiple of 256"),
        (lambda: preset("cpu-nano-t0"), "no multiple of 256"),
        (lambda: preset("cpu-nano-w448"), "does not divide into 3 heads"),
        (lambda: preset("cpu-nano-w128-d2"), "unknown preset"),
        (lambda: preset("cpu-nano-d"), "unknown preset"),
        (lambda: preset("x"), "unknown preset 'x'; known: cpu-nano, cpu-tiny"),
        (lambda: TrainConfig.for_preset("cpu-nano", stepz=1), "unknown training option: stepz"),
        (lambda: TrainConfig.for_preset("cpu-nano", steps=3, time_budget=4.0), "exactly one of"),
        (lambda: TrainConfig.for_preset("cpu-nano", time_budget=None), "exactly one of"),
        (lambda: TrainConfig.for_preset("cpu-nano", steps=0), "at least 1"),
        (lambda: TrainConfig.for_preset("cpu-nano", time_budget=-1.0), "must be positive"),
        (lambda: TrainConfig.for_preset("cpu-nano", time_budget=float("nan")), "must be positive"),
        (lambda: TrainConfig.for_preset("cpu-nano", batch_size=3), "not a multiple of the 768 tokens"),
        (lambda: TrainConfig.for_preset("cpu-nano", eval_tokens=100), "less than one batch"),
        (lambda: TrainConfig.for_preset("cpu-nano", compute_dtype="float8"), "unknown compute_dtype"),
        (lambda: TrainConfig.for_preset("cpu-nano", matrix_lr=-0.1), "matrix_lr must be 0 or more"),
        (lambda: TrainConfig.for_preset("cpu-nano", weight_decay=float("inf")), "weight_decay must be 0 or more"),
        (lambda: TrainConfig.for_preset("cpu-nano", warmup_ratio=7.0), "warmup_ratio must be from 0 to 1"),
        (lambda: TrainConfig.for_preset("cpu-nano", adam_beta2=1.0), "adam_beta2 must be 0 or more and below 1"),
        (lambda: TrainConfig.from_json({"model": {"layers": 3}}), "not a training configuration"),
        (lambda: GPTConfig(n_embd=500), "n_embd 500 does not divide|even width"),
        (lambda: GPTConfig(n_kv_head=3), "not a multiple of n_kv_head"),
        (lambda: GPTConfig(window_pattern="SXL"), "letters S and L"),
        (lambda: GPTConfig(n_layer=0), "n_layer must be a positive integer"),
        (lambda: GPTConfig(n_layer=10**20), "n_layer must be at most 9999"),
    ],
)
def test_bad_configurations_are_refused(make, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert caught.value.exit_code == 2


def test_words_change_the_model_and_the_optimizer():
    config = TrainConfig.for_preset("cpu-nano", **parse_changes(["depth=3", "width=256", "matrix_lr=0.03"]))
    model = config.model
    assert (model.n_layer, model.n_embd, model.n_head, model.n_kv_head) == (3, 256, 2, 2)
    assert config.matrix_lr == 0.03 and config.batch_size == 8 and model.sequence_len == 256


@pytest.mark.parametrize(
    ("word", "message"),
    [("depth=x", "depth takes an integer"), ("matrix_lr=inf", "takes a number"), ("vocab_size=9", "cannot set"),
     ("sequence_len=512", "cannot set"), ("seed", "cannot set")],
)  # fmt: skip
def test_what_runs_are_compared_by_cannot_be_set(word: str, message: str):
    with pytest.raises(ConfigError, match=message):
        parse_changes([word])
