"""A side's command: what its process finds, and what is kept for the next one."""

import sys
from pathlib import Path

import pytest

from autoresearch_lab.versions.process import execute


def test_what_a_side_imports_is_compiled_once_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Images for containers often tell Python to write no bytecode; each training would compile PyTorch's anew."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    side, out = tmp_path / "side", tmp_path / "out"
    side.mkdir()
    out.mkdir()
    (side / "part_of_the_side.py").write_text("VALUE = 3\n")
    ended = execute([sys.executable, "-c", "import part_of_the_side"], side, out, 60.0)
    assert ended.code == 0, ended.error
    assert list((tmp_path / "cache" / "bytecode").rglob("part_of_the_side.*.pyc"))
    assert [path.name for path in side.iterdir()] == ["part_of_the_side.py"]
