"""Runs the tests of tests/kernels/interpreted in processes of their own, through Triton's interpreter."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"
FILES = sorted(path.stem for path in FOLDER.glob("test_*.py"))
WITHOUT_TRITON = importlib.util.find_spec("triton") is None


@pytest.mark.skipif(WITHOUT_TRITON, reason="the Python package 'triton' is not installed")
@pytest.mark.parametrize("name", FILES)
def test_passes_through_the_interpreter(name):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(FOLDER / f"{name}.py")]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
