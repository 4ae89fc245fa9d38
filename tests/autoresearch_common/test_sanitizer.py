"""The compiler's sanitizer: where it lies, and what a process with it sees."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from autoresearch_common import compiler, sanitizer


def test_variables_name_the_libraries_and_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sanitizer.environment([Path("/a/libasan.so"), Path("/b/libstdc++.so")], Path("/run/sanitizer"))
    assert found["LD_PRELOAD"] == "/a/libasan.so /b/libstdc++.so"
    assert "log_path=/run/sanitizer" in found["ASAN_OPTIONS"].split(":")
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert sanitizer.active()
    sanitizer.begin()
    assert "LD_PRELOAD" not in os.environ


def test_without_the_variable_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sanitizer.VARIABLE, raising=False)
    monkeypatch.setenv("LD_PRELOAD", "")
    sanitizer.begin()
    assert not sanitizer.active() and "LD_PRELOAD" in os.environ


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("g++"), reason="needs gcc on Linux")
def test_the_libraries_of_gcc_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    compiler.find.cache_clear()
    sanitizer.runtime.cache_clear()
    libraries = sanitizer.runtime()
    assert all(path.is_file() for path in libraries)
    assert not libraries or "asan" in libraries[0].name
