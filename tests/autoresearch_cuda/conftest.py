"""One thread, and the independent restatement of the model."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors here are far too small to share between threads; two of them only wait for each other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def restatement() -> ModuleType:
    """The independent float64 form of model and optimizer, restatement.py."""
    spec = importlib.util.spec_from_file_location("restatement", Path(__file__).with_name("restatement.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
