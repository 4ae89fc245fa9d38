"""Orchestrate's workspaces: one that cannot be used is said once and left aside, the others are found all the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger, LedgerCorrupt
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.workspace import create
from autoresearch_lab.workspace.listing import Workspaces


@pytest.fixture
def workspaces(opened, context, root: Root, captured):
    """With a second workspace, "two", beside "one"; `said` holds its lines."""
    _, ledger = opened
    create(load_catalog(root)["rms_norm"], root.workspaces / "two", Lab.of(context, root, ledger), captured)
    said: list[str] = []
    made = Workspaces(root.workspaces, Lab(root, ENGINES["cpu"]), said.append)
    made.said, made.ledger = said, ledger
    return made


# What a ledger itself gives to a record.
SEALED = {"schema", "id", "prev", "time", "kind", "commit"}


def names(workspaces: Workspaces) -> list[str]:
    return [workspace.folder.name for workspace in workspaces.workspaces()]


def edited(folder: Path, root: Root, ledger: Ledger) -> None:
    (folder / "oracle.py").write_text("# another one")


def of_another_contract(folder: Path, root: Root, ledger: Ledger) -> None:
    root.kernels.unlink()
    shutil.copytree(CHECKOUT / "kernels" / "rms_norm", root.kernels / "rms_norm")
    oracle = root.kernels / "rms_norm" / "oracle.py"
    oracle.write_text(oracle.read_text() + "# changed\n")


def unknown_to_the_ledger(folder: Path, root: Root, ledger: Ledger) -> None:
    shutil.copytree(folder, folder.with_name("copy"))
    left = json.loads(ledger.path.read_text().splitlines()[-1])
    ledger.path.unlink()  # the new one knows only of "two"
    Ledger(ledger.path).append(left["kind"], **{name: left[name] for name in left if name not in SEALED})


@pytest.mark.parametrize(
    ("spoil", "line"), [(edited, "oracle.py was changed"), (unknown_to_the_ledger, "knows nothing of")]
)
def test_one_that_cannot_be_opened_is_left_aside_once(workspaces, root, spoil, line) -> None:
    spoil(root.workspaces / "one", root, workspaces.ledger)
    assert names(workspaces) == names(workspaces) == ["two"]
    assert len([said for said in workspaces.said if "/one" in said]) == 1
    assert all(said.startswith("left aside: workspace: ") and line in said for said in workspaces.said)


@pytest.mark.parametrize("spoil", [edited, of_another_contract])
def test_a_new_one_gets_a_place_beside_one_that_cannot_be_used(workspaces, root, spoil) -> None:
    assert workspaces.place("one") == root.workspaces / "one" and workspaces.place("new") == root.workspaces / "new"
    workspaces._seen.clear()
    spoil(root.workspaces / "one", root, workspaces.ledger)
    assert workspaces.place("one") == root.workspaces / "one-2"
    assert workspaces.place("one") == root.workspaces / "one-2" and len(workspaces.said) == 1


def test_what_was_begun_by_somebody_else_is_not_filled(workspaces, root) -> None:
    (root.workspaces / "new").mkdir()
    assert workspaces.place("new") == root.workspaces / "new"
    (root.workspaces / "new" / "mine.txt").write_text("keep")
    assert workspaces.place("new") == root.workspaces / "new-2"
    assert len(workspaces.said) == 1 and "is not a workspace" in workspaces.said[0]


def test_those_of_another_engine_are_none_of_its_business(workspaces, root, context, captured) -> None:
    other = replace(context, engine=ENGINES["mlx"])
    create(load_catalog(root)["rms_norm"], root.workspaces / "apple", Lab.of(other, root, workspaces.ledger), captured)
    assert names(workspaces) == ["one", "two"] and workspaces.said == []
    assert workspaces.place("apple") == root.workspaces / "apple-2"


def test_drafts_are_no_workspaces(workspaces, root) -> None:
    shutil.copytree(root.workspaces / "one", root.workspaces / ".three.draft")
    assert names(workspaces) == ["one", "two"] and workspaces.said == []


def test_a_broken_ledger_concerns_all_of_them(workspaces) -> None:
    workspaces.ledger.path.write_text("{\n")
    with pytest.raises(LedgerCorrupt):
        names(workspaces)
