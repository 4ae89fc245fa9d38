"""Which dataset is taken where none is named."""

from pathlib import Path

import click
import pytest

from autoresearch_lab.cli.app import Session, cli
from autoresearch_lab.datasets import choose_dataset, is_own
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import Root


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


@pytest.mark.parametrize("verb", ["profile", "ab", "trial", "fit", "capture", "gate", "run", "mac"])
def test_every_verb_that_trains_takes_the_one_that_train_py_takes(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    option = next(one for one in command.params if one.name == "dataset")

    def taken(*words: str) -> str:
        parent = click.Context(cli, obj=Session(Lab(Root(tmp_path), "auto")))
        ctx = click.Context(command, parent=parent)
        opts, _, order = command.make_parser(ctx).parse_args(list(words))
        return option.handle_parse_result(ctx, opts, [])[0]

    assert taken() == "stdlib"
    prepared(tmp_path / "data", "stdlib", "climbmix")
    assert taken() == "climbmix" and taken("--dataset", "stdlib") == "stdlib"
    monkeypatch.setenv("AUTORESEARCH_DATA", str(prepared(tmp_path / "elsewhere", "mine")))
    assert taken() == "mine"


def test_what_was_prepared_under_another_name_is_trained_on_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    prepared(tmp_path / "data", "mine", "stdlib")
    root = Root(tmp_path)
    assert is_own(root, "mine") and not is_own(root, "stdlib") and not is_own(root, "other")
