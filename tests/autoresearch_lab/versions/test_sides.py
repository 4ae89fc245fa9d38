"""The sides of a trial: what they are, where they lie, and what they may not change."""

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from autoresearch_lab.errors import LabError
from autoresearch_lab.versions.sides import check_pair, open_side

from .conftest import git, write_dataset


def side(here: SimpleNamespace, text: str, name: str = "b"):
    return open_side(name, text, "stdlib", here.root)


def test_a_ref_lies_in_a_tree_that_nobody_writes_to(here: SimpleNamespace):
    commit = here.commit(bpb=1.5)
    here.commit(bpb=1.4)
    old = side(here, commit)
    assert (old.folder / "plan.json").read_text() == '{"bpb": 1.5}' and old.commit.startswith(commit)
    assert not (old.folder / "plan.json").stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    assert side(here, "HEAD~1").folder == old.folder


def test_the_working_tree_is_taken_as_it_is_and_left_alone(here: SimpleNamespace):
    here.commit()
    clean = side(here, ".")
    assert clean.commit == side(here, "HEAD").commit and clean.tree == side(here, "HEAD").tree
    (here.path / "plan.json").write_text('{"bpb": 1.0}')
    (here.path / "new.py").write_text("")
    before = git(here.path, "count-objects"), git(here.path, "status", "--porcelain")
    changed = side(here, ".")
    assert changed.commit.endswith("+") and (changed.folder / "new.py").exists() and changed.tree != clean.tree
    assert (git(here.path, "count-objects"), git(here.path, "status", "--porcelain")) == before
    (here.path / "plan.json").write_text('{"bpb": 0.5}')
    assert (changed.folder / "plan.json").read_text() == '{"bpb": 1.0}'


def test_a_link_that_leads_out_of_the_tree_is_one_line(here: SimpleNamespace):
    here.commit()
    (here.path / "elsewhere").symlink_to("/tmp")
    with pytest.raises(LabError, match="'elsewhere' is a link to an absolute path; remove it, or have git ignore it"):
        side(here, ".")


def test_words_override_options_and_name_a_dataset(here: SimpleNamespace):
    here.commit()
    write_dataset(here.path / "data" / "mine", train="d")
    found = side(here, "HEAD depth=6 dataset=mine kernels=rms_norm=cpp_fused")
    assert found.options == {"depth": "6", "kernels": "rms_norm=cpp_fused"} and found.manifest.name == "mine"
    assert side(here, "depth=6").tree == side(here, ".").tree
    check_pair(side(here, "HEAD", "a"), found)


@pytest.mark.parametrize(
    ("text", "message"),
    [("nowhere", "side b: 'nowhere' is no commit"), ("HEAD main", "is no git ref"), ("depth=", "is no git ref"),
     ("HEAD --output=x", "is no commit, branch or tag|is no git ref")],
)  # fmt: skip
def test_what_is_no_side_is_refused(here: SimpleNamespace, text: str, message: str):
    here.commit()
    with pytest.raises(LabError, match=message):
        side(here, text)


def test_without_git_there_is_no_trial(here: SimpleNamespace):
    with pytest.raises(LabError, match="needs a git checkout with a commit"):
        side(here, ".")


CHEATS = {
    "evaluates the training data": ("autoresearch_trainer/evaluate.py", 'split("val")', 'split("train")'),
    "counts more bytes": ("autoresearch_data/bpb.py", "math.log(2.0) * total_bytes", "math.log(2.0) * 2 * total_bytes"),
    "has tokens of other bytes": ("autoresearch_data/tokenizer.py", "class Tokenizer", "BYTES = 2\nclass Tokenizer"),
    "is not there": ("autoresearch_trainer/rungs.py", None, None),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_side_that_changes_the_evaluation_is_refused_by_name(here: SimpleNamespace, cheat: str):
    path, old, new = CHEATS[cheat]
    here.commit()
    file: Path = here.path / path
    if old is None:
        file.unlink()
    else:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
    with pytest.raises(LabError, match=f"side b changes the evaluation: {path}"):
        here.trial("HEAD", ".")
    assert not here.stub.asked and here.lab.ledger.count() == 0


def test_both_sides_with_another_evaluation_than_the_labs_are_refused(here: SimpleNamespace):
    (here.path / "autoresearch_data" / "bpb.py").write_text("")
    here.commit()
    with pytest.raises(LabError, match="the lab that runs has another evaluation than both sides: .*bpb.py"):
        here.trial("HEAD", "HEAD")


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"tokenizer": "x"}, "changes the tokenizer's bytes: dataset other"),
     ({"val": "x"}, "changes the validation split: dataset other")],
)  # fmt: skip
def test_data_with_another_measure_is_refused_by_name(here: SimpleNamespace, changed: dict, message: str):
    here.commit()
    write_dataset(here.path / "data" / "other", train="d", **changed)
    with pytest.raises(LabError, match=message):
        here.trial("HEAD", "HEAD dataset=other")
