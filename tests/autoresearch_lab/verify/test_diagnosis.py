"""What a failure says to look at first."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.paths import Root
from autoresearch_lab.verify import exploits as suite
from autoresearch_lab.verify.plan import Planner

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def prepared() -> dict:
    return {}


@pytest.fixture
def next_step(tmp_path: Path, prepared: dict, monkeypatch: pytest.MonkeyPatch):
    """`next_step(body)` verifies relu_squared with this body, by combinations only."""
    monkeypatch.setattr(Planner, "_odd", lambda self, neighbours: [])

    def of(body: str) -> str:
        path = tmp_path / "kernel.py"
        path.write_text(f"import torch.nn.functional as F\n\n\n{body}", encoding="utf-8")
        kernel = Kernel("relu_squared", "kernel", "torch", ("cpu",), "candidate", "python", path)
        return suite.run_kernel(kernel, load_catalog(Root())["relu_squared"], tmp_path, prepared).results.next_step

    return of


def test_the_context_and_the_command(next_step) -> None:
    found = next_step("def relu_squared(x):\n    y = F.relu(x).square()\n    return y if x.is_leaf else y * 2\n")
    # Others may be such calls, too: of arrays of zeros, which are drawn sometimes, twice the result is the same.
    assert "the context (" in found and "not a leaf" in found and "that is so in all" in found
    assert found.endswith(f"kernel-lab verify relu_squared=kernel --seed {suite.SEED}")


def test_the_layout_of_an_argument(next_step) -> None:
    found = next_step("def relu_squared(x):\n    y = F.relu(x).square()\n    return y * (1 + x.storage_offset())\n")
    # Whatever else than row-major an array is, it may begin inside a block as well.
    assert "the layout of x (gaps or offset or strided or transposed): that is so in all" in found


def test_a_failure_of_another_check_has_the_command_alone(next_step) -> None:
    assert next_step("def relu_squared(x):\n    return x\n").startswith("The same calls again: kernel-lab verify")
