"""What the Makefile would do, asked with `make -n`: nothing is installed."""

import shutil
import subprocess

import pytest

from autoresearch_lab.paths import CHECKOUT


def planned(*arguments: str) -> str:
    command = ["make", "-n", "-C", str(CHECKOUT), "VENV=build/none", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_an_environment_of_uv_gets_pip_too():
    """`make test-triton` and the advice that errors give run it."""
    with_uv = planned("UV=uv", "setup")
    # Else confined jobs, which may not write there, compile modules in every verification.
    assert "pip install --compile-bytecode" in with_uv
    assert "uv venv" in with_uv and "-m pip --version" in with_uv and "uv pip install --quiet" in with_uv
    assert "uv pip" not in planned("UV=", "setup")
