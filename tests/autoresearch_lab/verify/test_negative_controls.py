"""No target is admitted whose faults pass: every planted fault is noticed, and right results are not objected to."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.verify.controls import controls

_path = CHECKOUT / "tests" / "exploits" / "suite.py"
_spec = importlib.util.spec_from_file_location("exploit_suite_workloads", _path)
suite = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(suite)
CATALOG = load_catalog(Root())


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_every_planted_fault_is_noticed(name: str) -> None:
    found = controls(CATALOG[name], suite.small_workloads(name), seed=7)
    assert len(found) > 2
    assert [fault for fault, noticed in found.items() if not noticed] == []


def test_the_folder_of_cheats_is_there() -> None:
    assert len(list(Path(_path.parent, "cheats").glob("*.py"))) >= 45
