"""MLX alone: what the PyTorch engine does before it loads a kernel is none of its business."""

import pytest

from autoresearch_trainer import kernel_files


@pytest.fixture(autouse=True)
def no_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of both engines share a process, the engines never do."""
    monkeypatch.setattr(kernel_files, "before_loading", [])
