"""Work that goes on is seen; pools that sleep are not."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time

import numpy as np
import pytest

from autoresearch_trainer.probe.background import Background

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in Linux's /proc")


def _start(function: str) -> None:
    """A native thread, of which Python knows nothing, in a function of the C library that takes one number."""
    libc = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    address = ctypes.cast(getattr(libc, function), ctypes.c_void_p)
    argument = ctypes.c_void_p(3600)
    libc.pthread_create.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    assert libc.pthread_create(ctypes.byref(thread), None, address, argument) == 0


def test_a_process_that_was_started_and_not_waited_for_is_seen() -> None:
    watched = Background()
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert watched.found() == ["1 processes of the kernel are still running"]
    finally:
        child.kill()
        time.sleep(0.1)
        assert watched.found() == []  # it has ended, though nobody has asked
        child.wait()
    subprocess.run(["true"], check=True)
    assert watched.found() == []


def test_threads_that_sleep_are_nobodys_concern() -> None:
    watched = Background()
    _start("sleep")
    (np.ones((400, 400)) @ np.ones((400, 400))).sum()  # the library's own pool
    assert watched.found() == watched.found(last=True) == []
