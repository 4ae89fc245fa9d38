"""How a command ends, as an exit code and one line on stderr."""

import os
import signal

import click
import pytest

from autoresearch_lab.cli.app import run_guarded
from autoresearch_lab.errors import LabError, LabFailure


@pytest.fixture(autouse=True)
def restore():
    yield
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(error: BaseException):
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (LabError("no such\ntarget"), 2, "error: no such target"),
        (LabFailure("the run failed"), 1, "error: the run failed"),
        (click.UsageError("no such option"), 2, "error: no such option"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (SystemExit(1), 1, ""),
    ],
)
def test_every_end_has_its_exit_code(error: BaseException, code: int, line: str, capsys):
    assert run_guarded(_raise(error)) == code
    assert capsys.readouterr().err.strip() == line


def test_a_terminated_command_says_so(capsys):
    assert run_guarded(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert capsys.readouterr().err.strip() == "error: terminated"
