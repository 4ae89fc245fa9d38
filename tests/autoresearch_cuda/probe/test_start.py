"""What a device that does not start, a kernel that does not load and a missing compiler look like."""

import pytest
import torch

from autoresearch_common.hashing import kernel_hash
from autoresearch_cuda.probe import JOBS
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root


def start(tmp_path, kernels, **more):
    args = {"device": "cpu", "kernels": kernels, "compile": False, **more}
    return JOBS["start"](args, tmp_path, lambda fields: None)["found"]


def test_a_device_and_a_kernel_that_work(tmp_path):
    kernel = load_catalog(Root())["relu_squared"].baseline("torch", "cpu")
    assert start(tmp_path, {kernel.name: kernel.plain()}) == {"device": None, kernel.name: None}


def test_what_fails_is_told_in_a_line_and_the_rest_is_tried(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def relu_squared(x):\n    raise RuntimeError('no\\nlauncher')\n")
    broken = {"target": "relu_squared", "name": "broken", "path": str(path), "sha256": kernel_hash(path)}
    kernel = load_catalog(Root())["relu_squared"].baseline("torch", "cpu")
    found = start(tmp_path, {"broken": broken, "whole": kernel.plain()})
    assert found == {"device": None, "broken": "RuntimeError: no launcher", "whole": None}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_the_device_nothing_else_is_tried(tmp_path):
    found = start(tmp_path, {}, device="cuda")
    assert set(found) == {"device"} and "Error" in found["device"]
