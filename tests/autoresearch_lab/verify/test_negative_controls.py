"""No target is admitted whose faults pass: every planted fault is noticed, and right results are not objected to."""

from __future__ import annotations

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_lab.verify import exploits
from autoresearch_lab.verify.controls import controls
from autoresearch_lab.verify.small import small_workloads

CATALOG = load_catalog(Root())


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_every_planted_fault_is_noticed(name: str) -> None:
    found = controls(CATALOG[name], small_workloads(CATALOG[name], "cpu"), seed=7)
    assert len(found) > 2
    assert [fault for fault, noticed in found.items() if not noticed] == []


def test_the_folder_of_cheats_is_there() -> None:
    assert len(list((exploits.FOLDER / "cheats").glob("*.py"))) >= 45
