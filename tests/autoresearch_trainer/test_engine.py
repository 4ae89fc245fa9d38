"""Both engines have every name that the shared parts of a training run ask for."""

import importlib

import pytest

from autoresearch_trainer.engine import TrainerEngine

NAMES = [name for name in vars(TrainerEngine) if not name.startswith("_")]


@pytest.mark.parametrize(("package", "framework"), [("autoresearch_cuda", "torch"), ("autoresearch_mlx", "mlx.core")])
def test_an_engine_is_complete(package: str, framework: str):
    pytest.importorskip(framework)
    engine = importlib.import_module(f"{package}.engine")
    assert len(NAMES) > 15 and [name for name in NAMES if not callable(getattr(engine, name, None))] == []
