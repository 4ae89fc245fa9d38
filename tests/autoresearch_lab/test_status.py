"""What verbs and trainings say of themselves: enough to look on, seldom enough to disturb nothing, never an end."""

import io
import json
import math
import os

import pytest
from rich.console import Console

from autoresearch_lab import status, training_progress
from autoresearch_lab.cli import progress
from autoresearch_lab.status import CandidateStatus, StatusFile, WorkStatus, reporting
from autoresearch_lab.training_progress import TrainingProgress


def read(folder):
    return WorkStatus.model_validate_json((folder / "status-cpu.json").read_bytes())


def test_a_verb_tells_what_it_does_and_that_it_ended(tmp_path):
    with reporting(tmp_path / "results", "bench", "cpu"):
        pass  # it was refused, say: nothing is left behind
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), reporting(tmp_path / "results", "bench", "cpu") as told:
        told.line("begins")
        told.stage("warm-up", "verify rope=one", 1, 8)
        found = read(tmp_path / "results")
        assert (found.verb, found.stage, found.done, found.log) == ("bench", "warm-up", 1, ["begins"])
        assert found.about == "verify rope=one"
        assert found.process == os.getpid() and found.lives and not found.ended
        raise KeyError
    assert read(tmp_path / "results").ended
    assert os.listdir(tmp_path / "results") == ["status-cpu.json"]


def test_counts_are_written_once_a_second_and_stages_at_once(tmp_path, monkeypatch):
    writes = []
    monkeypatch.setattr(os, "replace", lambda *paths: writes.append(paths))
    told = StatusFile("bench", "cpu", tmp_path / "status-cpu.json")
    for number in range(1000):
        told.stage("round", None, number, 1000)
    assert len(writes) <= 3
    told.stage("measured", None, None, None)
    assert len(writes) <= 4


def test_a_full_disk_ends_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    monkeypatch.setattr(training_progress, "open", full, raising=False)
    with reporting(tmp_path, "bench", "cpu") as told:
        told.line("goes on")
    TrainingProgress(tmp_path, lambda: 1.0).end({"status": "failed"})


def test_steps_are_timed_when_the_next_one_begins(monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(status.time, "time", lambda: float(next(clock)))
    told = StatusFile("orchestrate")

    def step(label, name, **steps):
        told.step(label, name, [CandidateStatus(candidate=each, step=now) for each, now in steps.items()])

    step("a", "verify on node-1", a="verify", b="verify")
    step("b", "verify on node-2", a="verify", b="verify")  # both are under way
    assert [row.since is not None for row in told.now.candidates] == [True, True] and told.now.took == {}
    step("a", "bench", a="bench", b="verify")
    assert set(told.now.took) == {"verify"} and len(told.now.took["verify"]) == 1
    step("b", "bench", a=None, b="bench")
    assert [len(told.now.took[name]) for name in ("verify", "bench")] == [2, 1]
    assert told.now.about == "bench b" and all(min(took) > 0 for took in told.now.took.values())


def test_a_training_appends_lines_and_begins_anew(tmp_path):
    record = {"config": {"preset": "cpu-nano", "compute_dtype": "bfloat16", "peak_flops": 1e12},
              "dataset": {"name": "stdlib"}, "device": {"name": "a CPU"}, "model": {"flops_per_token": 10}}  # fmt: skip

    def train(steps):
        told = TrainingProgress(tmp_path, lambda: 812.0)
        told({"event": "start", "parameters": 5, "record": record})
        for step in range(1, steps + 1):
            told({"event": "step", "step": step, "progress": step / steps, "loss": 3.0, "smoothed_loss": 2.5,
                  "seconds": 0.1, "tokens_per_second": 100.0 * step, "training_seconds": 0.1 * step})  # fmt: skip
        told({"event": "evaluate", "done": 1, "total": 1})
        told.end({"status": "complete", "summary": {"val_bpb": 1.5, "mfu_percent": None, "depth": 4}})
        return [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]

    train(3)
    start, *steps, evaluation, end = train(500)
    assert (start["peak_flops"], start["process"], evaluation["total"], end["val_bpb"]) == (1e12, os.getpid(), 1, 1.5)
    assert [step["step"] for step in steps][:1] == [1] and steps[-1]["step"] == 500 and len(steps) < 20
    assert steps[-1]["tokens_per_second"] == pytest.approx(100 * sum(range(2, 501)) / 499)  # since the line before
    assert steps[-1]["memory_mb"] == 812.0 and end["status"] == "complete" and "mfu_percent" not in end


def test_progress_is_told_to_those_who_watch_too(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 1000.0)
    out, told = io.StringIO(), StatusFile("bench")
    for terminal in (False, True):
        with progress.progress(Console(file=out, force_terminal=terminal), "bench", told) as show:
            show({"stage": "warm-up"})
            show({"case": "without a stage"})
            about = {"about": "bench rope=one", "process": 2, "processes": 8}
            show({"stage": "round", **about, "done": math.inf, "total": 8})
        assert (told.now.about, told.now.stage) == ("bench rope=one", "process 2 of 8")
        assert (told.now.done, told.now.total) == (None, 8)
