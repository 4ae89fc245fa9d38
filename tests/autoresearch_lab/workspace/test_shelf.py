"""Orchestrate's workspaces: one that cannot be used is said once and left aside, the others are found all the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.ledger import Ledger, LedgerCorrupt
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.workspace import create
from autoresearch_lab.workspace.shelf import Shelf


@pytest.fixture
def shelf(opened, context, root: Root, captured):
    """With a second workspace, "two", beside "one"; `said` holds its lines."""
    _, ledger = opened
    create(load_catalog(root)["rms_norm"], root.workspaces / "two", context, root, ledger, captured)
    said: list[str] = []
    made = Shelf(root.workspaces, ENGINES["cpu"], root, ledger, said.append)
    made.said, made.ledger = said, ledger
    return made


def names(shelf: Shelf) -> list[str]:
    return [workspace.folder.name for workspace in shelf.workspaces()]


def edited(folder: Path, root: Root, ledger: Ledger) -> None:
    (folder / "oracle.py").write_text("# another one")


def of_another_contract(folder: Path, root: Root, ledger: Ledger) -> None:
    root.kernels.unlink()
    shutil.copytree(CHECKOUT / "kernels" / "rms_norm", root.kernels / "rms_norm")
    oracle = root.kernels / "rms_norm" / "oracle.py"
    oracle.write_text(oracle.read_text() + "# changed\n")


def unknown_to_the_ledger(folder: Path, root: Root, ledger: Ledger) -> None:
    shutil.copytree(folder, folder.with_name("copy"))
    ledger.path.write_text(ledger.path.read_text().splitlines()[-1] + "\n")  # what is left knows only of "two"


@pytest.mark.parametrize(
    ("spoil", "line"), [(edited, "oracle.py was changed"), (unknown_to_the_ledger, "knows nothing of")]
)
def test_one_that_cannot_be_opened_is_left_aside_once(shelf, root, spoil, line) -> None:
    spoil(root.workspaces / "one", root, shelf.ledger)
    assert names(shelf) == names(shelf) == ["two"]
    assert len([said for said in shelf.said if "/one" in said]) == 1
    assert all(said.startswith("left aside: workspace: ") and line in said for said in shelf.said)


@pytest.mark.parametrize("spoil", [edited, of_another_contract])
def test_a_new_one_gets_a_place_beside_one_that_cannot_be_used(shelf, root, spoil) -> None:
    assert shelf.place("one") == root.workspaces / "one" and shelf.place("new") == root.workspaces / "new"
    shelf._seen.clear()
    spoil(root.workspaces / "one", root, shelf.ledger)
    assert shelf.place("one") == root.workspaces / "one-2"
    assert shelf.place("one") == root.workspaces / "one-2" and len(shelf.said) == 1


def test_what_was_begun_by_somebody_else_is_not_filled(shelf, root) -> None:
    (root.workspaces / "new").mkdir()
    assert shelf.place("new") == root.workspaces / "new"
    (root.workspaces / "new" / "mine.txt").write_text("keep")
    assert shelf.place("new") == root.workspaces / "new-2"
    assert len(shelf.said) == 1 and "is not a workspace" in shelf.said[0]


def test_those_of_another_engine_are_none_of_its_business(shelf, root, context, captured) -> None:
    other = replace(context, engine=ENGINES["mlx"])
    create(load_catalog(root)["rms_norm"], root.workspaces / "apple", other, root, shelf.ledger, captured)
    assert names(shelf) == ["one", "two"] and shelf.said == []
    assert shelf.place("apple") == root.workspaces / "apple-2"


def test_drafts_are_no_workspaces(shelf, root) -> None:
    shutil.copytree(root.workspaces / "one", root.workspaces / ".three.draft")
    assert names(shelf) == ["one", "two"] and shelf.said == []


def test_a_broken_ledger_concerns_all_of_them(shelf) -> None:
    shelf.ledger.path.write_text("{\n")
    with pytest.raises(LedgerCorrupt):
        names(shelf)
