"""Checkpoints written in the background: what they hold, what they cost, what happens when they cannot be written."""

import threading
from pathlib import Path

import pytest
import torch

from autoresearch_cuda import engine
from autoresearch_cuda.checkpoint import load_checkpoint
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.train import Trainer
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.loop import run
from autoresearch_trainer.saver import BackgroundSaver, Interval


@pytest.mark.parametrize(("text", "interval"), [("90", Interval(90.0)), ("0.5s", Interval(0.5))])
def test_intervals_are_seconds_or_steps(text: str, interval: Interval):
    assert Interval.parse(text) == interval
    assert Interval.parse("500steps") == Interval(steps=500)


@pytest.mark.parametrize("text", ["", "x", "-3", "0", "1.5steps", "3 minutes"])
def test_other_intervals_are_refused(text: str):
    with pytest.raises(ConfigError, match="cannot read the interval"):
        Interval.parse(text)


def test_what_is_written_is_the_moment_of_the_copy(config, dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The write is held up until training has gone on; the file still holds the step it was due at."""
    gate, write = threading.Event(), engine.write_snapshot

    def held_up(*args):
        assert gate.wait(20)
        write(*args)

    monkeypatch.setattr(engine, "write_snapshot", held_up)
    trainer, straight = (Trainer(config, Ops.baseline(), dataset) for _ in range(2))
    with BackgroundSaver(engine, tmp_path / "c", Interval(steps=4)) as saver:
        for _ in range(9):  # due after 4, and after 8 while the first is still being written
            trainer.step()
            saver.after_step(trainer, lambda: {"steps": trainer.steps_done})
        gate.set()
    assert (saver.costs.written, saver.costs.skipped) == (1, 1) and saver.costs.bytes > 10_000

    resumed = Trainer(config, Ops.baseline(), dataset)
    assert load_checkpoint(resumed, tmp_path / "c") == {"steps": 4}
    losses = [straight.step().loss for _ in range(8)]
    assert [resumed.step().loss for _ in range(4)] == losses[4:]
    for (name, a), b in zip(resumed.model.named_parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_later_checkpoint_reuses_the_buffers_and_replaces_the_earlier(config, dataset, tmp_path: Path):
    trainer = Trainer(config, Ops.baseline(), dataset)
    with BackgroundSaver(engine, tmp_path / "c", Interval(steps=1)) as saver:
        pointers = []
        for _ in range(3):
            trainer.step()
            saver.after_step(trainer, lambda: {"at": trainer.steps_done})
            saver.wait()
            pointers.append({name: t.data_ptr() for name, t in saver._buffers.items()})
    assert pointers[0] == pointers[1] == pointers[2] and saver.costs.written == 3
    assert load_checkpoint(Trainer(config, Ops.baseline(), dataset), tmp_path / "c") == {"at": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_write_that_fails_ends_the_run_with_one_line(config, dataset, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the checkpoint in .*file"):
        with BackgroundSaver(engine, tmp_path / "file" / "c", Interval(steps=1)) as saver:
            trainer = Trainer(config, Ops.baseline(), dataset)
            trainer.step()
            saver.after_step(trainer, dict)


def test_a_run_saves_as_it_goes_and_says_what_that_cost(config, dataset, tmp_path: Path):
    record = run(engine, config, None, dataset, tmp_path / "a", checkpoint_every=Interval(steps=6))
    assert record["checkpoints"]["written"] + record["checkpoints"]["skipped"] == 2
    resumed = run(engine, config, None, dataset, tmp_path / "b", resume=tmp_path / "a" / "checkpoint")
    assert resumed["losses"] == record["losses"] and resumed["resumed_at"] in (6, 12)
