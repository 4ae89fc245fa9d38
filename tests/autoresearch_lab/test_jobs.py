"""An engine's complaint about the request is bad input; everything else stays a failure."""

from types import SimpleNamespace

import pytest

from autoresearch_lab import jobs
from autoresearch_lab.errors import LabError
from autoresearch_lab.sandbox.parent import JobFailed


def engine(failure):
    def run(job, args, **options):
        raise failure

    return SimpleNamespace(run=run)


@pytest.mark.parametrize("name", sorted(jobs.BAD_INPUT))
def test_bad_input_keeps_the_message_alone(name, tmp_path):
    failure = JobFailed("exception", f"train: {name}: unknown preset 'x'", exception=name)
    with pytest.raises(LabError) as caught:
        jobs.call(engine(failure), "train", {}, run_dir=tmp_path)
    assert str(caught.value) == "unknown preset 'x'"


@pytest.mark.parametrize(
    "failure",
    [
        JobFailed("exception", "train: ZeroDivisionError: division by zero", exception="ZeroDivisionError"),
        JobFailed("crash", "train: ended by SIGSEGV"),
        JobFailed("timeout", "train: no answer within 3 s"),
    ],
)
def test_failures_stay_failures(failure, tmp_path):
    with pytest.raises(JobFailed) as caught:
        jobs.call(engine(failure), "train", {}, run_dir=tmp_path)
    assert caught.value is failure


def test_result_comes_through(tmp_path):
    answering = SimpleNamespace(run=lambda job, args, **options: {"job": job, **args})
    assert jobs.call(answering, "time", {"a": 1}, run_dir=tmp_path) == {"job": "time", "a": 1}
