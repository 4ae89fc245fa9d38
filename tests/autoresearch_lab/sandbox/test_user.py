"""A job of root's is no longer root: it owns its run folder, and what is root's alone is closed to it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from autoresearch_lab.sandbox import user
from autoresearch_lab.sandbox.parent import Limits, run_job

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0, reason="only root on Linux can become another user"
)

JOBS = """
import os, subprocess
from pathlib import Path

def attempt(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"

def look(args, run_dir, report):
    Path(run_dir, "made").write_text("x")
    capabilities = next(line for line in open("/proc/self/status") if line.startswith("CapEff"))
    return {
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "capabilities": int(capabilities.split()[1], 16),
        "closed": {path: attempt(lambda: open(path).read()) for path in args["closed"]},
        "shown": {path: attempt(lambda: os.listdir(path)) for path in args["folders"]},
        "mine": Path(run_dir, "given").stat().st_uid,
        "write": attempt(lambda: Path(run_dir, "given").write_text("y")),
        "again": attempt(lambda: os.setuid(0)),
        "own /proc": attempt(lambda: open("/proc/self/environ").read()),
        "compiler": subprocess.run(["/bin/sh", "-c", "echo x > $TMPDIR/y"]).returncode,
    }

JOBS = {"look": look}
"""


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "lib" / "curious_jobs"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "probe.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "given").write_text("x")
    (run_dir / "given").chmod(0o600)

    def look(readable: tuple[str, ...] = (), **args: list[str]) -> dict:
        limits = Limits(seconds=60, confined=True, readable=readable)
        return run_job("curious_jobs", "look", {"closed": [], "folders": [], **args}, run_dir=run_dir, limits=limits)

    return look


def test_it_is_nobody_owns_its_folder_and_nothing_else(look) -> None:
    found = look()
    number = found["ids"][0]
    assert number > 60_000 and set(found["ids"]) == {number}
    # Of root's rights at most the one to read what Landlock lets it.
    assert found["capabilities"] in (0, 1 << 1, 1 << 2)
    assert found["mine"] == number and found["write"] == found["own /proc"] == "done" and found["compiler"] == 0
    assert found["again"] == "PermissionError"


def test_secrets_cannot_be_read(look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    (kernel / ".env").write_text("TOKEN=1")
    (kernel / "kernel.py").write_text("")
    (kernel / "shadow.py").symlink_to("/etc/shadow")
    home = Path("~root").expanduser()
    closed = [
        "/etc/shadow",
        "/etc/sudoers",
        str(kernel / ".env"),
        str(kernel / "shadow.py"),
        "/proc/1/environ",
        "/dev/mem",
    ]
    closed += [str(path) for path in Path("/dev").glob("[sv]d[a-z]")]
    closed = [path for path in closed if Path(path).exists()]
    found = look(readable=(str(kernel),), closed=closed, folders=[str(home), "/etc"])
    assert found["closed"] == dict.fromkeys(closed, "PermissionError")
    assert found["shown"] == {str(home): "PermissionError", "/etc": "PermissionError"}


def test_a_second_name_of_a_file_is_not_given_away(tmp_path: Path) -> None:
    """A job could leave one in its folder, for the next one to own."""
    folder, precious = tmp_path / "run", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("root's")
    os.link(precious, folder / "link")
    (folder / "symbolic").symlink_to(precious)
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("x")
    user._give(folder, 12_345)
    assert precious.stat().st_uid == 0
    assert folder.stat().st_uid == (folder / "inner" / "file").stat().st_uid == 12_345


def test_numbers_that_the_namespace_does_not_know_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user, "_mapped", lambda first, count, path: first < 1 << 16)
    assert 61_184 <= user._number(tmp_path) < 65_520
    monkeypatch.setattr(user, "_mapped", lambda first, count, path: False)
    assert user._number(tmp_path) is None and not user.become(tmp_path, [])
    assert os.getuid() == 0
