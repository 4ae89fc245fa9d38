"""A file appears whole or not at all; the next write takes away what a killed one left, not what a living one has."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autoresearch_common.files import begun, prune, replacing_file, write_atomic


@pytest.mark.parametrize("how", ["kill", "full", "exit"])
def test_at_every_write_the_file_is_the_old_or_the_new_one(how, tmp_path, crashes):
    found = []

    def begin(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_text("old")
        return folder

    def check(folder, number):
        found.append((folder / "file").read_text())
        write_atomic(folder / "file", "newer")
        assert [path.name for path in folder.iterdir()] == ["file"]  # nothing is left over
        assert (folder / "file").read_text() == "newer"

    crashes.each(begin, lambda folder: write_atomic(folder / "file", "new"), check, how)
    assert set(found) <= {"old", "new"} and found == sorted(found, reverse=True) and found[0] == "old"


def test_a_file_that_is_being_written_is_left_alone(tmp_path):
    with replacing_file(tmp_path / "file") as first:
        first.write_text("first")
        write_atomic(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first" and os.listdir(tmp_path) == ["file"]


def test_what_killed_writers_left_in_the_folder_goes_and_nothing_else(tmp_path):
    for name in ("swp", "lock", "1234.unfinished.txt", "1234.unfinished", "5678.unfinished"):
        (tmp_path / f".file.{name}").touch()
    with begun(tmp_path / ".file.5678.unfinished"):
        write_atomic(tmp_path / "another", "text")
    assert sorted(os.listdir(tmp_path)) == [
        ".file.1234.unfinished.txt",
        ".file.5678.unfinished",
        ".file.lock",
        ".file.swp",
        "another",
    ]


def test_writers_in_one_folder_never_take_each_others_files_for_left_over(tmp_path):
    def write(number):
        for _ in range(200):
            write_atomic(tmp_path / str(number), "text")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert sorted(os.listdir(tmp_path)) == [str(number) for number in range(8)]


def test_the_least_recently_used_go(tmp_path: Path):
    for age, name in enumerate(("new", "mid", "old", "older")):
        (tmp_path / name / "fxgraph").mkdir(parents=True)
        (tmp_path / name / "fxgraph" / "graph").write_bytes(bytes(1000))
        for path in (tmp_path / name / "fxgraph" / "graph", tmp_path / name):
            os.utime(path, (1e9 - age, 1e9 - age))
    prune(tmp_path.iterdir(), most_bytes=10**6)
    assert len(list(tmp_path.iterdir())) == 4
    space = sum(path.stat().st_size for path in (tmp_path / "new").rglob("*"))
    os.utime(tmp_path / "older")  # in use
    prune(tmp_path.iterdir(), most_bytes=2 * space)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "older"}
    (tmp_path / "new" / "empty").touch()
    os.utime(tmp_path / "new" / "empty", (1e9, 1e9))
    prune((path for path in tmp_path.rglob("*") if path.is_file()), most_bytes=1500)
    assert [path.parent.parent.name for path in tmp_path.rglob("*") if path.is_file()] == ["new"]
