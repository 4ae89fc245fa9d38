"""Starting up is quick: front door, imports, kernels, model and first uncompiled step in under five seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

SCRIPT = """
import sys, time
from types import SimpleNamespace
import numpy as np
from autoresearch_data.tokens import Tokens
from autoresearch_lab import training
from autoresearch_lab.cli.train import main

rng = np.random.default_rng(0)
split = Tokens.from_documents(rng.integers(4, 8192, size).tolist() for size in rng.integers(50, 300, 300))
tokenizer = SimpleNamespace(vocab_size=8192, bos_id=0, token_bytes=np.ones(8192, dtype=np.int32))
dataset = SimpleNamespace(name="numbers", fingerprint="f" * 64, tokenizer=tokenizer, split=lambda name: split)
training.open_dataset = lambda folder: dataset
arguments = ["--preset", "cpu-nano", "--steps", "1", "--eval-tokens", "2048", "--compile", "off", "--out", sys.argv[1]]
arguments += ["--engine", "cpu", "--kernels", "baseline", "--results", sys.argv[1] + "/results.tsv"]
code = main([*arguments, "--data-dir", "."])
print("compiler imported:", "torch._dynamo" in sys.modules)
# Processor time: on a busy machine the wall clock says more about the others.
print("processor seconds", time.process_time())
sys.exit(code)
"""


def test_from_the_front_door_to_the_first_step(tmp_path: Path):
    """One step and a small evaluation on one thread, so that processor time is what the wall clock shows when idle."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "compiler imported: False" in done.stdout  # a third of the limit by itself
    assert float(done.stdout.split()[-1]) < 5.0
