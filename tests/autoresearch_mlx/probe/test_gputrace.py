"""Job `gputrace`, with the GPU and its recorder replaced: MLX's CPU build has neither."""

from pathlib import Path

import pytest

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")

from autoresearch_mlx.probe import JOBS, gputrace  # noqa: E402
from autoresearch_trainer.config import TrainConfig  # noqa: E402
from autoresearch_trainer.errors import ConfigError  # noqa: E402


def request(folder: Path) -> dict:
    return {"preset": "m5-tiny", "dataset_dir": str(folder), "steps": 2, "output": str(folder / "x.gputrace")}


def quiet(message):
    pass


@pytest.fixture
def on_gpu(monkeypatch, config, dataset):
    """A machine with a GPU, as far as the job asks, whose recorder writes an empty folder. Yields what it was told."""
    told = []
    monkeypatch.setattr(gputrace, "on_gpu", lambda: True)
    monkeypatch.setattr(gputrace, "open_dataset", lambda folder: dataset)
    monkeypatch.setattr(gputrace, "WARMUP_STEPS", 1)
    monkeypatch.setattr(TrainConfig, "for_preset", lambda name, **rest: config)
    monkeypatch.setattr(mx.metal, "start_capture", lambda path: (told.append("start"), Path(path).mkdir()))
    monkeypatch.setattr(mx.metal, "stop_capture", lambda: told.append("stop"))
    monkeypatch.setenv("MTL_CAPTURE_ENABLED", "1")
    return told


def test_steps_are_recorded_after_the_warm_up(tmp_path, on_gpu):
    found = JOBS["gputrace"](request(tmp_path), tmp_path, quiet)
    assert on_gpu == ["start", "stop"] and found["steps"] == 2 and found["tokens_per_step"] == 128
    assert found["dataset"]["name"] == "counting" and "rms_norm" in found["selection"]


def test_what_metal_cannot_record_is_refused(tmp_path, on_gpu, monkeypatch):
    monkeypatch.delenv("MTL_CAPTURE_ENABLED")
    with pytest.raises(ConfigError, match="MTL_CAPTURE_ENABLED"):
        JOBS["gputrace"](request(tmp_path), tmp_path, quiet)
    monkeypatch.setenv("MTL_CAPTURE_ENABLED", "1")
    (tmp_path / "x.gputrace").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        JOBS["gputrace"](request(tmp_path), tmp_path, quiet)
    monkeypatch.setattr(gputrace, "on_gpu", lambda: False)
    with pytest.raises(ConfigError, match="no Metal"):
        JOBS["gputrace"](request(tmp_path), tmp_path, quiet)
    assert on_gpu == []


def test_a_recorder_that_writes_nothing_is_noticed(tmp_path, on_gpu, monkeypatch):
    monkeypatch.setattr(mx.metal, "start_capture", lambda path: None)
    with pytest.raises(RuntimeError, match="no trace"):
        JOBS["gputrace"](request(tmp_path), tmp_path, quiet)
