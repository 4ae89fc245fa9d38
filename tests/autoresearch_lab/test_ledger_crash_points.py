"""An append is ended at each of its writes, and within its line: the record is there, whole, or it is not."""

import os
import shutil

import pytest

from autoresearch_lab import ledger as module
from autoresearch_lab.ledger import Ledger


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(module, "commit_of", lambda folder: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def append(folder, reason="as planted"):
    settings = {"event": "failed", "step": "verify", "contract_sha256": "a" * 64}
    return Ledger(folder / "ledger.jsonl").append("note", settings=settings, results={"reason": reason})


def count(folder):
    """Of the records, in a chain that holds."""
    ledger = Ledger(folder / "ledger.jsonl")
    assert ledger.problems() == []
    return len(ledger.records())


@pytest.mark.parametrize("torn", [b"", b'{"id": "half of a li'])
@pytest.mark.parametrize("how", ["kill", "full", "exit"])
def test_at_every_write_of_an_append_the_record_is_whole_or_not_there(how, torn, tmp_path, crashes):
    found = []

    def begin(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        append(folder)
        with open(folder / "ledger.jsonl", "ab") as file:
            file.write(torn)
        return folder

    def check(folder, number):
        found.append(count(folder))
        append(folder)
        assert count(folder) == found[-1] + 1
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        shutil.rmtree(folder)

    crashes.each(begin, append, check, how)
    assert found == sorted(found) and set(found) == {1, 2}


def test_a_line_that_ends_early_is_a_record_or_set_aside(tmp_path):
    """The head is written after the line, so it knows of the first record alone."""
    append(tmp_path)
    path, head = tmp_path / "ledger.jsonl", tmp_path / "ledger.jsonl.head"
    begun, before = path.stat().st_size, head.read_bytes()
    append(tmp_path)
    whole = path.read_bytes()
    for size in (*range(begun, len(whole), 9), len(whole) - 2, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:size])
        head.write_bytes(before)
        expected = 1 if size < len(whole) - 1 else 2
        assert count(tmp_path) == expected
        append(tmp_path)
        assert count(tmp_path) == expected + 1


def merge(folder):
    other = Ledger(folder.parent / "other" / "ledger.jsonl")
    Ledger(folder / "ledger.jsonl").merge([other], lambda stage, done, size: None)


@pytest.fixture
def other(tmp_path):
    """Another machine's ledger, of two records."""
    (tmp_path / "other").mkdir()
    for _ in range(2):
        append(tmp_path / "other", "elsewhere")


@pytest.mark.parametrize("how", ["kill", "interrupt", "full", "exit"])
def test_at_every_write_of_a_merge_all_is_taken_over_or_nothing(how, tmp_path, crashes, other):
    found = []

    def begin(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        append(folder)
        return folder

    def check(folder, number):
        found.append(count(folder))
        append(folder)
        assert count(folder) == found[-1] + 1
        merge(folder)
        assert count(folder) == 5

    crashes.each(begin, merge, check, how)
    assert found == sorted(found) and set(found) == {1, 4}


def test_a_merge_that_ends_within_its_lines_is_undone_or_whole(tmp_path, other):
    folder = tmp_path / "own"
    append(folder)
    path, head = folder / "ledger.jsonl", folder / "ledger.jsonl.head"
    begun, before = path.stat().st_size, head.read_bytes()
    merge(folder)
    whole = path.read_bytes()
    for size in (*range(begun, len(whole), 97), len(whole) - 1, len(whole)):
        path.write_bytes(whole[:size])
        head.write_bytes(before)
        append(folder)
        assert count(folder) == (2 if size < len(whole) - 1 else 5)
        merge(folder)
        assert count(folder) == 5
