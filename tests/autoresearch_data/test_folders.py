"""At whichever write the replacing of a folder is ended, the next run finds the old one or the new one."""

import pytest

from autoresearch_data.folders import put_back, replacing_folder


def replace(folder, text):
    with replacing_folder(folder / "set") as new:
        (new / "a").write_text(text)
        (new / "b").write_text(text)


@pytest.mark.parametrize("how", ["kill", "interrupt", "full"])
def test_at_every_write_the_next_run_finds_the_old_folder_or_the_new_one(how, tmp_path, crashes):
    found = []

    def begin(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        replace(folder, "old")
        return folder

    def check(folder, number):
        put_back(folder / "set")
        texts = [(folder / "set" / name).read_text() for name in "ab"]
        assert texts in (["old", "old"], ["new", "new"]), number
        found.append(texts[0])
        replace(folder, "newer")
        assert [path.name for path in folder.iterdir()] == ["set"]

    writes = crashes.each(begin, lambda folder: replace(folder, "new"), check, how)
    assert writes > 5 and "old" in found and ("new" in found or how == "full")
