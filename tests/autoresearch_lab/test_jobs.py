"""An engine's complaint about the request is bad input; everything else stays a failure."""

import os
import signal
from types import SimpleNamespace

import pytest

from autoresearch_common.compiler import CompilerMissing
from autoresearch_data.errors import NoDataset
from autoresearch_lab import jobs
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.sandbox.parent import JobFailed
from autoresearch_trainer.errors import ConfigError, KernelChanged
from autoresearch_trainer.jobs.base import DatasetRef
from autoresearch_trainer.jobs.failures import failure_kind
from autoresearch_trainer.jobs.training import TRAIN, TrainArgs


def engine(failure):
    def run(job, args, **options):
        raise failure

    return SimpleNamespace(run=run)


ARGS = TrainArgs(preset="x", dataset=DatasetRef(folder="-", fingerprint="f"), selection={}, runs=[])


@pytest.mark.parametrize("kind", ["bad_input", "kernel"])
def test_bad_input_keeps_the_message_alone(kind, tmp_path):
    failure = JobFailed(kind, "train: ConfigError: unknown preset 'x'", reason="unknown preset 'x'")
    with pytest.raises(LabError) as caught:
        jobs.call(engine(failure), TRAIN, ARGS, run_dir=tmp_path)
    assert str(caught.value) == "unknown preset 'x'"


@pytest.mark.parametrize(
    "failure",
    [
        JobFailed("exception", "train: ZeroDivisionError: division by zero"),
        JobFailed("crash", "train: ended by SIGSEGV"),
        JobFailed("timeout", "train: no answer within 3 s"),
    ],
)
def test_failures_stay_failures(failure, tmp_path):
    with pytest.raises(JobFailed) as caught:
        jobs.call(engine(failure), TRAIN, ARGS, run_dir=tmp_path)
    assert caught.value is failure


def test_result_comes_through(tmp_path):
    answering = SimpleNamespace(run=lambda job, args, **options: (job.name, args))
    assert jobs.call(answering, TRAIN, ARGS, run_dir=tmp_path) == ("train", ARGS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("x"), "bad_input"),
        (NoDataset("x"), "bad_input"),
        (KernelChanged("x"), "kernel"),
        (CompilerMissing("x"), "kernel"),
        (MemoryError(), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory"),
        (ZeroDivisionError("division by zero"), "exception"),
        (SystemExit(3), "exception"),
    ],
)
def test_the_engine_says_what_an_exception_means(error, kind):
    assert failure_kind(error) == kind


def test_a_job_whose_folder_was_deleted_says_so_and_blames_nobody(tmp_path, monkeypatch):
    inputs, folder = tmp_path / "verify" / "inputs", tmp_path / "verify" / "baseline"
    failure = JobFailed("exception", "call: FileNotFoundError: inputs")

    def run_job(package, job, args, **options):
        raise failure

    monkeypatch.setattr("autoresearch_lab.engine.run_job", run_job)
    with pytest.raises(LabError, match=f"call: {folder} was deleted while the lab worked; nothing follows from it"):
        ENGINES["cpu"].perform("call", {"inputs": str(inputs)}, run_dir=folder)
    folder.mkdir(parents=True)
    with pytest.raises(LabError, match=f"call: {inputs} was deleted while the lab worked"):
        ENGINES["cpu"].perform("call", {"inputs": str(inputs)}, run_dir=folder)
    inputs.touch()
    with pytest.raises(JobFailed) as caught:
        ENGINES["cpu"].perform("call", {"inputs": str(inputs)}, run_dir=folder)
    assert caught.value is failure


def worked_in(folder, end):
    """A process that works in a run folder as a bench does, and then does `end`; its number."""
    child = os.fork()
    if child == 0:
        with jobs.running(folder):
            (folder / "process").mkdir()
            (folder / "process" / "inputs.safetensors").write_bytes(bytes(1000))
            (folder / jobs.SAMPLES).write_bytes(b"raw")
            end()
        os._exit(0)
    return child


def test_the_next_run_takes_away_what_killed_ones_left_and_nothing_else(tmp_path):
    """What runs, what told why it failed, and what a record may name stay."""
    runs = tmp_path / "runs"
    for name, end in (("done", lambda: None), ("killed", lambda: os._exit(9))):
        os.waitpid(worked_in(runs / name, end), 0)
    assert (runs / "killed" / jobs.MARK).exists()
    alive = worked_in(runs / "alive", lambda: os.kill(os.getpid(), signal.SIGSTOP))
    os.waitpid(alive, os.WUNTRACED)
    with jobs.running(runs / "next"):
        left = {folder.name: sorted(path.name for path in folder.iterdir()) for folder in runs.iterdir()}
    assert left.pop("next") == [jobs.MARK] and left.pop("killed") == [jobs.SAMPLES]
    assert left == {"done": ["process", jobs.SAMPLES], "alive": [jobs.MARK, "process", jobs.SAMPLES]}
    os.kill(alive, signal.SIGKILL)
    os.waitpid(alive, 0)
    with pytest.raises(LabError), jobs.running(runs / "refused"):
        raise LabError("not verified")
    assert sorted(path.name for path in runs.iterdir()) == ["alive", "done", "killed"]  # with samples, all of them
    assert not (runs / "alive" / "process").exists()
