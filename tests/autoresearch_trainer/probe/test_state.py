"""What of the process's state counts as changed."""

import ctypes
import platform
import subprocess
import sys

import pytest

from autoresearch_trainer.probe.state import floating_control

DIVISION_BY_ZERO = 4  # FE_DIVBYZERO of x86
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


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc", reason="fenv.h of x86-64 and glibc"
)
def test_a_trap_shows_and_the_flag_that_a_division_leaves_does_not():
    libm = ctypes.CDLL("libm.so.6")
    libm.feclearexcept(0x3F)
    before = floating_control()
    assert libm.feraiseexcept(DIVISION_BY_ZERO) == 0
    assert floating_control() == before
    libm.feclearexcept(DIVISION_BY_ZERO)
    libm.feenableexcept(DIVISION_BY_ZERO)
    trapping = floating_control()
    libm.fedisableexcept(DIVISION_BY_ZERO)
    assert trapping != before
    assert floating_control() == before
