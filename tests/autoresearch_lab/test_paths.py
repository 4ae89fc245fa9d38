"""Files are written whole, where they belong, and onto nothing but files."""

import os

import pytest

from autoresearch_common.files import write_atomic
from autoresearch_lab import jsonfile
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import output_file


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(OSError, match="it is not a regular file"):
            write_atomic(path, "text")
        with pytest.raises(LabError, match=f"profile: cannot write {path}: it is not a regular file"):
            output_file(path, "profile")
        with pytest.raises(LabError, match=f"profile: cannot write {path}: it is not a regular file"):
            jsonfile.save({}, path, "profile")
    assert pipe.is_fifo() and link.is_symlink() and sorted(tmp_path.iterdir()) == [link, pipe]


def test_a_link_that_leads_to_itself_is_no_file(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match="it is not a regular file"):
        write_atomic(loop, "text")
    assert loop.is_symlink()


def test_links_to_files_stay_links(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(f"there/{name}")
    (tmp_path / "there" / "old").write_text("before")
    for name in ("old", "new"):
        write_atomic(output_file(tmp_path / name, "profile"), name)
        assert (tmp_path / name).is_symlink() and (tmp_path / "there" / name).read_text() == name
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["new", "old"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="is a folder; name a file"):
        output_file(tmp_path, "profile")
    with pytest.raises(LabError, match=f"profile: cannot write to {tmp_path / 'file'}"):
        output_file(tmp_path / "file" / "p.json", "profile")
