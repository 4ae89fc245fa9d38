"""The files of a lab at work, made by `stub_lab.py`."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from autoresearch_lab.paths import Root


@pytest.fixture(scope="session")
def stub_lab() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stub_lab", Path(__file__).with_name("stub_lab.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)
