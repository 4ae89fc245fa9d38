"""What a confined job may not do is tried, so that a system that only claims to forbid it is found out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from autoresearch_lab.sandbox import attempts, confine, landlock, limits, seccomp, user
from autoresearch_lab.sandbox.probe import not_enforced_here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement is Linux's")
FEW = limits.Limits(confined=True, processes=64, memory_bytes=24 * limits.GIB, file_bytes=limits.GIB)


def _told(tmp_path: Path, setting: limits.Limits = FEW) -> list[str]:
    """What a process that confines itself here says of it; with whatever the test has broken in it."""
    reader, writer = os.pipe()
    run_dir = tmp_path / "run"
    run_dir.mkdir(exist_ok=True)
    with attempts.planted() as folder:
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, json.dumps(limits.apply_in_child(setting, run_dir, folder)).encode())
            except BaseException as error:
                os.write(writer, json.dumps([f"{type(error).__name__}: {error}"]).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, encoding="utf-8") as pipe:
            told = json.loads(pipe.read())
        os.waitpid(child, 0)
    return told


needs_all = pytest.mark.skipif(landlock.version() < 6, reason="this kernel cannot forbid all of it")


@needs_all
def test_here_nothing_forbidden_can_be_done(tmp_path: Path) -> None:
    assert not_enforced_here(tmp_path / "run") == []
    assert _told(tmp_path) == []


@needs_all
def test_a_landlock_that_does_nothing_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "restrict", lambda **rules: [])
    told = _told(tmp_path)
    assert {attempts.WRITES, attempts.READS, attempts.POSIX} <= set(told)
    # Root's jobs are another user's; what is private stays so, unless Python itself lies in a folder of root's alone.
    assert (attempts.SIGNALS in told) == (os.getuid() != 0)
    if os.getuid() == 0:
        assert (attempts.PRIVATE in told) == any(map(user._closed, confine._python_folders()))


@needs_all
def test_a_landlock_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert set(landlock.UNENFORCED) <= set(_told(tmp_path))


@needs_all
def test_a_filter_that_does_nothing_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "install", lambda gpu: [])
    assert {attempts.NETWORK, attempts.GROUP, attempts.SYSTEM_V} <= set(_told(tmp_path))


@needs_all
def test_limits_that_are_set_and_do_not_hold_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.resource, "setrlimit", lambda what, values: None)
    told = set(_told(tmp_path))
    assert {attempts.ADDRESS_SPACE, attempts.FILE_SIZE, attempts.PROCESSES} == told


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_root_that_stays_root_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine.user, "become", lambda run_dir, needed: False)
    assert {attempts.USER, attempts.PROCESSES} <= set(_told(tmp_path))


def test_what_is_planted_is_taken_away(tmp_path: Path) -> None:
    with attempts.planted() as folder:
        assert folder.is_dir()
    assert not folder.exists()
