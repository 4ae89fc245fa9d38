"""What is decided when something is left open, and that the reason is stated."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_cuda import engine
from autoresearch_cuda.checkpoint import take_snapshot, write_snapshot
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.train import Trainer
from autoresearch_lab.paths import CHECKOUT
from autoresearch_trainer import plan as shared_plan
from autoresearch_trainer import rungs
from autoresearch_trainer.config import PRESETS, Preset, TrainConfig
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.memory import estimate_bytes
from autoresearch_trainer.plan import Request, complete

GIB = 2**30


@pytest.fixture(autouse=True)
def free_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "available_bytes", lambda device: 16 * GIB)


def choices(found: list) -> dict[str, tuple[str, str]]:
    return {choice.name: (choice.value, choice.why) for choice in found}


def test_everything_left_open_gets_a_value_and_a_reason(dataset):
    config, found = complete(engine, Request(compile="off"), "cpu-nano", dataset)
    assert (config.preset, config.time_budget, config.steps, config.seed) == ("cpu-nano", 300.0, None, 42)
    said = choices(found)
    assert set(said) == {"batch", "memory", "compile", "evaluation", "attention"} and all(w for _, w in said.values())
    assert said["batch"] == ("8 x 256 tokens, 2048 tokens per step", "the preset's")
    assert "16.0 GiB are free" in said["memory"][1] and said["compile"] == ("off", "asked for")


def test_the_default_evaluation_is_one_pass_at_most(dataset):
    """The small split of these tests holds fewer tokens than any rung."""
    config, found = complete(engine, Request(preset="cpu-nano"), "-", dataset)
    assert 2048 <= config.eval_tokens <= 14_000 and config.eval_spread_over is None
    assert "the whole split" in choices(found)["evaluation"][0]
    exact, _ = complete(engine, Request(preset="cpu-nano", eval_tokens=204_800), "-", dataset)
    assert exact.eval_tokens == 204_800


def test_a_rung_is_spread_over_the_full_one(dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rungs, "one_pass", lambda dataset, length, limit: 300_000)
    config, found = complete(engine, Request(evaluation="cheap"), "cpu-nano", dataset)
    assert (config.eval_tokens, config.eval_spread_over) == (24_576, 299_008)
    assert choices(found)["evaluation"] == ("cheap, 24576 tokens, spread over 299008", "asked for")
    config, _ = complete(engine, Request(evaluation="full"), "cpu-nano", dataset)
    assert (config.eval_tokens, config.eval_spread_over) == (299_008, None)


def test_a_batch_that_was_asked_for_is_not_fitted(dataset):
    config, found = complete(engine, Request(batch_size=2), "cpu-nano", dataset)
    assert (config.batch_size, config.accumulation, config.eval_batch_size) == (2, 4, 8)
    assert choices(found)["batch"] == ("2 x 256 tokens, 2048 tokens per step in 4 passes", "asked for")


def test_memory_decides_the_batch(dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "available_bytes", lambda device: 8 * GIB)
    config, found = complete(engine, Request(preset="upstream", compile="off"), "-", dataset)
    assert config.batch_size < 8 and config.total_batch_tokens == 65536
    assert "as the memory allows" in choices(found)["batch"][1]


def test_a_smoke_run_is_small_whatever_the_preset(dataset, monkeypatch: pytest.MonkeyPatch):
    for name in PRESETS:
        config, _ = complete(engine, Request(preset=name, smoke=True), "-", dataset)
        assert config.steps == 2 and config.model == PRESETS[name].model
        assert config.micro_batch_tokens <= 4096 and config.accumulation <= 2 and not config.compile
    monkeypatch.setattr(engine, "available_bytes", lambda device: GIB)
    with pytest.raises(ConfigError, match="preset upstream needs about .* are free"):
        complete(engine, Request(preset="upstream", smoke=True), "-", dataset)


def test_the_largest_smoke_run_stays_far_below_24_gb(dataset):
    config, _ = complete(engine, Request(preset="upstream", smoke=True), "-", dataset)
    assert estimate_bytes(config, "cpu") < 8 * GIB


def test_a_resumed_run_keeps_its_configuration(config, dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PRESETS, "test", Preset(config.model, 2, 128, 256, 512))
    saved = replace(config, seed=9, batch_size=1, eval_batch_size=2)
    trainer = Trainer(saved, Ops.baseline(), dataset)
    trainer.step()
    write_snapshot(take_snapshot(trainer, {}), tmp_path / "c")
    resumed, found = complete(engine, Request(resume=tmp_path / "c"), "cpu-nano", dataset)
    assert resumed == saved and "as in" in choices(found)["batch"][1]
    longer, _ = complete(engine, Request(resume=tmp_path / "c", steps=99, evaluation="cheap"), "cpu-nano", dataset)
    assert longer.steps == 99 and longer.seed == 9 and longer.eval_tokens == 64
    with pytest.raises(ConfigError, match="the checkpoint is of preset test, not cpu-nano"):
        complete(engine, Request(resume=tmp_path / "c", preset="cpu-nano"), "-", dataset)
    with pytest.raises(ConfigError, match="has a batch of 1; a resumed run keeps it"):
        complete(engine, Request(resume=tmp_path / "c", batch_size=2), "-", dataset)


def test_a_resumed_run_is_not_compiled_where_that_is_impossible(config, dataset, tmp_path: Path, monkeypatch):
    def refuse(*arguments) -> None:
        raise ConfigError("--compile on: no Python.h")

    monkeypatch.setattr(
        shared_plan, "read_state", lambda folder: {"config": replace(config, compile=True).to_json(), "steps_done": 0}
    )
    monkeypatch.setitem(PRESETS, "test", Preset(config.model, 2, 128, 256, 512))
    monkeypatch.setattr(engine, "resolve_compile", refuse)
    with pytest.raises(ConfigError, match="no Python.h"):
        complete(engine, Request(resume=tmp_path, eval_tokens=256), "-", dataset)
    request = Request(resume=tmp_path, eval_tokens=256, compile="off")
    assert not complete(engine, request, "-", dataset)[0].compile


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(time_budget=3.0, steps=3), "not both"),
        (Request(evaluation="cheap", eval_tokens=4096), "not both"),
        (Request(evaluation="huge"), "unknown evaluation 'huge'"),
        (Request(preset="huge"), "unknown preset 'huge'"),
        (Request(compile="maybe"), "unknown compile mode 'maybe'"),
        (Request(batch_size=0), "not a multiple"),
        (Request(batch_size=3), "not a multiple of the 768 tokens"),
        (Request(time_budget=0.0), "must be positive"),
        (Request(steps=0), "at least 1"),
        (Request(eval_tokens=3), "less than one batch"),
        (Request(resume=Path("/nowhere")), "no usable checkpoint in /nowhere"),
        (Request(changes={"sede": 1}), "unknown training option: sede"),
    ],
)
def test_bad_requests_are_one_line(request_: Request, message: str, dataset):
    with pytest.raises(ConfigError, match=message) as caught:
        complete(engine, request_, "cpu-nano", dataset)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_a_configuration_with_a_ceiling_is_otherwise_the_same():
    assert replace(TrainConfig().with_peak(1e12), peak_flops=None) == TrainConfig()


def test_a_run_on_the_cpu_is_planned_without_pytorch():
    script = """import sys
from autoresearch_cuda import plan
from autoresearch_lab import training
plan.describe_attention("cpu", "bfloat16"), plan.resolve_compile("auto", "cpu", None), plan.available_bytes("cpu")
assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=CHECKOUT)
