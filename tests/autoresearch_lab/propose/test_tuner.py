"""The built-in proposer: what is declared is tried, each constant around the best of the others."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from autoresearch_common.hashing import kernel_hash
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root
from autoresearch_lab.propose.attempts import Attempt, Budget, keep
from autoresearch_lab.propose.tuner import Tuner, declared, set_value, value_of

PYTHON = 'TUNABLE = {"ROWS": (1, 2), "BLOCK": (8, 16, 32)}\nROWS: int = 1  # rows at a time\n'
NATIVE = "#define SIZE 4\nconstexpr int64_t BLOCK = 8;  // bytes\nint other = BLOCK;\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "kernel.py").write_text(PYTHON)
    (tmp_path / "kernel.cpp").write_text(NATIVE)
    return tmp_path


def attempt(number, digest, bench, ratio):
    ends = (ratio - 0.1, ratio + 0.1)
    return Attempt(number=number, kernel_sha256=digest, verify="PASS", bench=bench, ratio=ratio, interval=ends)


def settings(folder):
    return int(value_of(folder, "ROWS")), int(value_of(folder, "BLOCK"))


def test_constants_are_found_and_set_where_they_stand(folder):
    assert declared(folder / "kernel.py") == {"ROWS": (1, 2), "BLOCK": (8, 16, 32)}
    assert settings(folder) == (1, 8) and value_of(folder, "SIZE") == "4"
    set_value(folder, "BLOCK", 32)
    set_value(folder, "ROWS", 2)
    set_value(folder, "SIZE", 5)
    assert (folder / "kernel.cpp").read_text() == NATIVE.replace("= 8;", "= 32;").replace("SIZE 4", "SIZE 5")
    assert (folder / "kernel.py").read_text() == PYTHON.replace("int = 1", "int = 2")


def test_one_constant_is_moved_after_the_other_around_the_best(folder):
    """Times: the more rows the better, and a block of 16 best."""
    workspace = SimpleNamespace(folder=folder, kernel=SimpleNamespace(path=folder / "kernel.py"))
    attempts, seen = [], []
    while True:
        if attempts or seen:
            nothing = Tuner()(workspace, attempts, Budget())
            if nothing:
                break
        rows, block = settings(folder)
        seen.append((rows, block))
        ratio = 2.0 + rows - abs(block - 16) / 16
        digest = kernel_hash(folder / "kernel.py")
        attempts.append(attempt(len(attempts) + 1, digest, "FASTER", ratio))
        keep(workspace, len(attempts))
    assert seen == [(1, 8), (2, 8), (2, 16), (1, 16), (2, 32)] and nothing == "every declared value was tried"
    assert settings(folder) == (2, 16)


def test_as_long_as_nothing_is_faster_it_searches_around_the_beginning(folder):
    workspace = SimpleNamespace(folder=folder, kernel=SimpleNamespace(path=folder / "kernel.py"))
    attempts = []
    for number, wanted in enumerate([(1, 8), (2, 8), (1, 16), (1, 32)], start=1):
        if number > 1:
            assert Tuner()(workspace, attempts, Budget()) is None
        assert settings(folder) == wanted
        attempts.append(attempt(number, kernel_hash(folder / "kernel.py"), "SAME", 1.0))
        keep(workspace, number)


def test_without_a_declaration_there_is_nothing_to_try(folder):
    (folder / "kernel.py").write_text("BLOCK = 1\n")
    workspace = SimpleNamespace(folder=folder, kernel=SimpleNamespace(path=folder / "kernel.py"))
    assert "declares no TUNABLE" in Tuner()(workspace, [], Budget())


@pytest.mark.parametrize("text", ["TUNABLE = 3\n", "TUNABLE = {'A': ('x',)}\n", "TUNABLE = {'A': open('f')}\n"])
def test_a_senseless_declaration_is_bad_input_and_is_not_run(folder, text):
    (folder / "kernel.py").write_text(text)
    with pytest.raises(LabError, match="a dictionary of names and numbers"):
        declared(folder / "kernel.py")


@pytest.mark.parametrize("text", ["", "BLOCK = 2\n"])
def test_a_constant_that_is_not_set_once_is_bad_input(folder, text):
    (folder / "kernel.py").write_text(PYTHON + text)
    if not text:
        (folder / "kernel.cpp").unlink()
    with pytest.raises(LabError, match="which is set [02] times; once is wanted"):
        value_of(folder, "BLOCK")


def test_what_the_catalogue_declares_can_be_set():
    kernels = [kernel for target in load_catalog(Root()).values() for kernel in target.kernels]
    found = {kernel: choices for kernel in kernels if (choices := declared(kernel.path))}
    assert found
    for kernel, choices in found.items():
        text = "".join(path.read_text() for path in kernel.path.parent.glob(f"{kernel.path.stem}.*"))
        for name, values in choices.items():
            now = re.search(rf"\b{name} = (\d+)", text)
            assert now and int(now[1]) in values, f"{kernel.target}: {name}"
