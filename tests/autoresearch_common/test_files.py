"""A file appears whole or not at all; the next write takes away what a killed one left, not what a living one has."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from autoresearch_common.files import begun, replacing_file, write_atomic


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
