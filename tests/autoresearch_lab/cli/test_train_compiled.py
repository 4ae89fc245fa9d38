"""`train.py` compiled, in processes of its own: an operator's edited backward takes effect, unchanged code is found."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from autoresearch_common import compiler
from autoresearch_data.build import prepare
from autoresearch_data.local import LocalCorpus
from autoresearch_lab.paths import CHECKOUT

KERNEL = """
import torch

@torch.library.custom_op("mylib::sq", mutates_args=())
def sq(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x).square()

def backward(ctx, cotangent):
    return 2 * torch.relu(ctx.saved_tensors[0]) * cotangent

sq.register_fake(lambda x: torch.empty_like(x))
sq.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]))

def relu_squared(x):
    return sq(x)
"""
STEPS = 4


@pytest.mark.skipif(not shutil.which("g++") and not shutil.which("c++"), reason="Inductor needs a C++ compiler")
def test_an_edited_backward_changes_the_losses_of_compiled_training(tmp_path: Path):
    try:
        compiler.python_headers()
    except compiler.HeadersMissing as error:
        pytest.skip(str(error))
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    (tmp_path / "workspaces").mkdir()
    kernel = tmp_path / "workspaces" / "kernel.py"
    files = [Path(sysconfig.get_path("stdlib"), f"{name}.py") for name in ("argparse", "ast", "typing", "tarfile")]
    prepare(LocalCorpus("small", files), tmp_path / "data" / "small")
    environment = {**os.environ, "AUTORESEARCH_CACHE": str(tmp_path / "cache")}
    environment.pop("AUTORESEARCH_DATA", None)

    def trained(source: str) -> dict:
        kernel.write_text(source)
        command = [sys.executable, str(CHECKOUT / "train.py"), "--root", str(tmp_path), "--engine", "cpu", "--json"]
        command += ["--preset", "cpu-nano-d1-w64", "--steps", str(STEPS), "--eval-tokens", "2048", "--compile", "on"]
        command += ["--kernels", f"relu_squared=workspace:{kernel.parent}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def built() -> int:
        return len([*(tmp_path / "cache" / "inductor").rglob("*.main.so")])

    first, again = trained(KERNEL), trained(KERNEL)
    before = built()
    edited = trained(KERNEL.replace("return 2 *", "return 0 *"))
    assert first["compile_cache"]["found"] == 0 and first["compile_cache"]["made"] > 0
    assert again["compile_cache"]["made"] == 0 and again["compile_cache"]["name"] == first["compile_cache"]["name"]
    assert again["losses"] == first["losses"] and len(first["losses"]) == STEPS
    assert edited["compile_cache"]["found"] == 0
    assert before <= built() < 1.5 * before  # most of the C++ is the same
    # The first weights and the first step are the same; gradients come to show in what follows.
    assert edited["losses"][0] == first["losses"][0] and edited["losses"] != first["losses"]
