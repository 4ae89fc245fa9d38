"""The Triton kernels inside torch.compile: one graph, no breaks, the same numbers, forward and backward.

The checks are in `triton_graphs.py`, run in a process of their own: the interpreter is chosen when Triton is imported.
"""

import os
import subprocess
import sys
from pathlib import Path

from triton_support import KERNELS, needs_triton

CHECKS = Path(__file__).with_name("triton_graphs.py")


@needs_triton
def test_kernels_are_single_nodes_of_a_graph():
    command = [sys.executable, "-m", "pytest", str(CHECKS), "-p", "no:cacheprovider", "--override-ini=addopts=-q"]
    command.append("--import-mode=importlib")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{2 * len(KERNELS) + 1} passed" in done.stdout, done.stdout[-300:]
