"""A profile file is read back as written, and anything else is refused in one clear line."""

import json
from pathlib import Path

import pytest

from autoresearch_lab.errors import LabError
from autoresearch_lab.profile import load, save

from .examples import example, row


def test_round_trip(tmp_path):
    profile = example(row(), row("rope", 2, floor_ms=None, saveable_ms=None))
    save(profile, tmp_path / "p.json")
    assert load(tmp_path / "p.json") == profile
    assert json.loads((tmp_path / "p.json").read_text())["schema"] == 1


def test_rows_by_rank():
    profile = example(row(), row("rope", 2))
    assert profile.row(2).target == "rope"
    with pytest.raises(LabError, match="no rank 3; it ranks 2 targets"):
        profile.row(3)


def damaged(change):
    plain = example().plain()
    change(plain)
    return json.dumps(plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[1]", "not a profile of schema 1"),
        ('{"schema": 7}', "not a profile of schema 1 .it says 7"),
        (damaged(lambda p: p.pop("step_ms")), "damaged: step_ms: Field required"),
        (damaged(lambda p: p.update(step_ms=0)), "damaged: step_ms"),
        (damaged(lambda p: p["targets"][0].update(rank="first")), "damaged: targets.0.rank"),
        (damaged(lambda p: p.update(targets=[])), "damaged: targets"),
        (damaged(lambda p: p.update(surprise=1)), "damaged: surprise"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(LabError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_unreadable_and_unwritable_places(tmp_path):
    with pytest.raises(LabError, match="cannot read .*No such file"):
        load(tmp_path / "none.json")
    with pytest.raises(LabError, match="cannot read"):
        load(tmp_path)
    with pytest.raises(LabError, match="cannot write"):
        save(example(), Path("/proc/none/p.json"))
