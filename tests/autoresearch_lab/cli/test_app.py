"""How a command ends, as an exit code and one line on stderr."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from autoresearch_lab.cli.app import (
    PIPED_COLUMNS,
    READ_ONLY,
    VERBS,
    Session,
    Terminated,
    command,
    console,
    main,
    run_guarded,
)
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import CHECKOUT, Root


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
        (PermissionError(13, "Permission denied", "/a/b"), 2, "error: cannot use /a/b: Permission denied"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)
def test_every_end_has_its_exit_code(error: BaseException, code: int, line: str, capsys):
    assert run_guarded(_raise(error)) == code
    assert capsys.readouterr().err.strip() == line


def test_who_closes_the_pipe_gets_no_verdict():
    """Not 1, which means no; and nothing on stderr."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, CHECKOUT / "kernel-lab.py", "list-targets"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_terminated_command_says_so(capsys):
    assert run_guarded(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert capsys.readouterr().err.strip() == "error: terminated"


def test_a_terminated_verb_is_no_interrupted_one(capsys):
    """Click turns KeyboardInterrupt into Abort."""
    verb = click.Command("verb", callback=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run_guarded(lambda: verb.main(args=[], standalone_mode=False)) == 143
    assert capsys.readouterr().err.strip() == "error: terminated"


@pytest.mark.parametrize("end", [KeyboardInterrupt, Terminated])
def test_a_verb_that_is_broken_off_says_what_it_recorded(end: type[BaseException], tmp_path: Path, capsys):
    def broken_off(session: Session, *, records: int) -> None:
        for _ in range(records):
            session.lab.ledger.append("note", settings={"event": "failed", "step": "ab"}, results={"reason": "x"})
        raise end

    asked = command("verify", broken_off, "", click.option("--records", type=int))
    for records, told in ((0, "none"), (2, "2")):
        words = ["--records", str(records)]
        session = Session(Lab(Root(tmp_path)))
        run_guarded(lambda words=words, session=session: asked.main(words, obj=session, standalone_mode=False))
        assert capsys.readouterr().err.startswith(f"broken off; new records in the ledger: {told}\n")


@pytest.mark.parametrize("verb", ["list-targets", "report", "ledger"])
def test_a_mistyped_engine_is_refused_by_every_verb(verb: str, tmp_path: Path, capsys):
    assert main(["--root", str(tmp_path), "--engine", "foo", verb]) == 2
    assert "'foo' is not one of" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["list-targets", "report", "ledger"])
def test_a_root_that_is_not_there_is_refused_and_not_made(verb: str, tmp_path: Path, capsys):
    missing = tmp_path / "missing"
    assert main(["--root", str(missing), verb]) == 2
    assert capsys.readouterr().err == f"error: --root {missing}: there is no such folder\n" and not missing.exists()


def test_who_stands_in_another_checkout_is_told_whose_lab_it_is(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["list-targets"]) == 0
    assert "note:" not in capsys.readouterr().err
    (tmp_path / "kernel-lab.py").touch()
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert main(["list-targets"]) == 0
    told = f"note: this is the lab of {CHECKOUT}; that of {tmp_path} is called by: python {tmp_path}/kernel-lab.py\n"
    assert capsys.readouterr().err == told


def test_what_the_lab_did_not_write_does_not_count_and_is_named(tmp_path: Path, capsys):
    """A verdict changed with an editor."""
    ledger = Lab(Root(tmp_path)).ledger
    ledger.append("note", settings={"event": "failed", "step": "ab"}, results={"reason": "REJECT"})
    ledger.path.write_text(ledger.path.read_text().replace("REJECT", "PROMOTE"))
    main(["--root", str(tmp_path), "promote", "rms_norm=cpp_fused"])
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: ledger: record 1 (note) was changed after it was written; such records do not count" in said
    assert ledger.find() == [] and len(ledger.records()) == 1


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    told = capsys.readouterr()
    assert "\n  verify " in told.out and told.err.startswith("error: no command") and told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "told"),
    [("verfy", "No such command 'verfy'; did you mean verify?"), ("", "No such command ''; --help lists them")],
)
def test_a_mistyped_command_is_answered_with_the_nearest(word: str, told: str, capsys):
    assert main([word]) == 2
    assert capsys.readouterr().err == f"error: {told}\n"


def test_only_known_verbs_are_read_only():
    assert set(VERBS) > READ_ONLY


@pytest.mark.parametrize("door", ["kernel-lab.py", "train.py", "prepare.py"])
def test_without_the_environment_a_front_door_says_how_to_make_it(door: str):
    bare = subprocess.run([sys.executable, "-S", CHECKOUT / door], capture_output=True, text=True, timeout=60)
    (line,) = bare.stderr.splitlines()
    assert bare.returncode == 2 and line.startswith("error: ")
    assert line.endswith("make setup, then . .venv/bin/activate")


INTERRUPTED = """
import runpy, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("door", ["kernel-lab.py", "train.py", "prepare.py"])
def test_an_interrupt_while_a_front_door_imports_is_no_traceback(door: str):
    command = [sys.executable, "-c", INTERRUPTED, str(CHECKOUT / door)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=CHECKOUT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_in_a_pipe_tables_are_wide_unless_the_user_says_how_wide(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console(stderr=False).width == PIPED_COLUMNS
    monkeypatch.setenv("COLUMNS", "72")
    assert console(stderr=False).width == 72
