"""What of the process's state counts as changed."""

import subprocess
import sys

FROZEN_FROM_THE_START = """
import gc
gc.freeze()
from autoresearch_trainer.probe import state
before = state.collector()
gc.unfreeze()
assert state.collector() == before, "measuring gives back what was frozen from the start"
gc.freeze()
assert state.collector() != before, "what a kernel freezes shows"
"""


def test_what_python_itself_keeps_from_the_collector_is_no_change():
    subprocess.run([sys.executable, "-c", FROZEN_FROM_THE_START], check=True)
