"""Oracles that are made of other oracles find them beside their own folder."""

from pathlib import Path

import pytest

from autoresearch_common.oracles import load_part


def test_the_part_is_taken_from_the_folder_beside(tmp_path: Path):
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
    (tmp_path / "part" / "oracle.py").write_text("VALUE = 7\n")
    assert load_part(str(tmp_path / "whole" / "oracle.py"), "part").VALUE == 7
    with pytest.raises(FileNotFoundError, match="other"):
        load_part(str(tmp_path / "whole" / "oracle.py"), "other")
