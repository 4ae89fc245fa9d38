"""What is set for the whole process."""

import gc
import subprocess
import sys

import torch

from autoresearch_cuda.process import peak_memory_mb, prepare_process
from autoresearch_trainer.process import QuietCollector, usable_cores

FAULTS = """
import resource, torch
from autoresearch_cuda.process import prepare_process
done = prepare_process() if {prepare} else None
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(5):  # until the heap has grown to its shape
    faults()
print(faults())
"""


def test_prepare_process_says_what_it_did(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    done = prepare_process()
    assert done["threads"] == torch.get_num_threads() == usable_cores()
    assert "allocator" in done and done["float32_matmul_precision"] in ("highest", "high", "medium")
    assert prepare_process(threads=1)["threads"] == torch.get_num_threads() == 1


def test_large_buffers_are_reused_instead_of_mapped_anew():
    """Counted in a fresh process: five buffers of 64 MB, page faults with and without the settings."""
    if "glibc, freed memory kept" not in prepare_process()["allocator"]:
        return
    counts = [
        int(subprocess.run([sys.executable, "-c", FAULTS.format(prepare=p)], capture_output=True, check=True).stdout)
        for p in (False, True)
    ]
    assert counts[1] < 1000 < counts[0]


def test_the_collector_is_paused_between_steps_and_given_back(monkeypatch):
    thawed = []
    monkeypatch.setattr(gc, "unfreeze", lambda: thawed.append(True))
    assert gc.isenabled()
    with QuietCollector() as collector:
        collector.after_step(0)
        assert not gc.isenabled() and gc.get_freeze_count() > 0
        collector.after_step(4999)
    assert gc.isenabled() and thawed


def test_peak_memory_is_plausible():
    assert 50 < peak_memory_mb(torch.device("cpu")) < 1e6
