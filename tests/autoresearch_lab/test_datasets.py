"""Which dataset is taken where none is named."""

from pathlib import Path

import pytest

from autoresearch_lab.datasets import choose_dataset
from autoresearch_lab.errors import LabError


def prepared(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "dataset.json").write_text("{}")
    return folder


def test_the_only_one_is_taken(tmp_path: Path):
    assert choose_dataset(prepared(tmp_path, "mine"), None) == (tmp_path / "mine", "the only one prepared")


@pytest.mark.parametrize(
    ("names", "taken"),
    [(("stdlib",), "stdlib"), (("mine", "stdlib"), "stdlib"), (("climbmix", "mine", "stdlib"), "climbmix")],
)
def test_of_several_climbmix_then_stdlib(tmp_path: Path, names: tuple[str, ...], taken: str):
    folder, why = choose_dataset(prepared(tmp_path, *names), None)
    assert folder == tmp_path / taken and (len(names) == 1 or ", ".join(names) in why)


def test_several_without_a_preferred_one_have_to_be_named(tmp_path: Path):
    with pytest.raises(LabError, match="name one of a, b with --dataset"):
        choose_dataset(prepared(tmp_path, "a", "b"), None)
    assert choose_dataset(tmp_path, "b") == (tmp_path / "b", "asked for")


def test_nothing_prepared_leads_to_the_command(tmp_path: Path):
    assert choose_dataset(tmp_path, None)[0] == tmp_path / "stdlib"
