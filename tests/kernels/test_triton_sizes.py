"""The Triton kernels at the sizes of preset `upstream` and beyond, on tensors without storage: no 32-bit integer
overflows, and docs/gpu-floors.md is up to date. The checks are in `triton_sizes.py`, run in a process of their own."""

import subprocess
import sys
from pathlib import Path

from triton_support import KERNELS, needs_triton

CHECKS = Path(__file__).with_name("triton_sizes.py")


@needs_triton
def test_kernels_at_the_sizes_of_upstream():
    command = [sys.executable, "-m", "pytest", str(CHECKS), "-p", "no:cacheprovider", "--override-ini=addopts=-q"]
    done = subprocess.run([*command, "--import-mode=importlib"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{len(KERNELS) + 7} passed" in done.stdout, done.stdout[-300:]
