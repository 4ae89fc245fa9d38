"""What a kernel changes around itself is named, whatever it is."""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import os
import signal
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path

import pytest
import torch

from autoresearch_cuda import optim
from autoresearch_cuda.probe.guard import Guard
from autoresearch_trainer import optim as schedules


def _handle() -> object:
    return torch.nn.modules.module.register_module_forward_hook(lambda module, given, result: None)


# What is done, what undoes it (given what the first one returned), and how the finding begins.
CHANGES = {
    "log messages": (lambda: logging.disable(50), lambda _: logging.disable(0), "log messages left out: "),
    "collector": (lambda: gc.set_debug(1), lambda _: gc.set_debug(0), "garbage collector's debugging: 0 -> 1"),
    "allocations": (tracemalloc.start, lambda _: tracemalloc.stop(), "allocations traced: False -> True"),
    "hooks": (_handle, lambda handle: handle.remove(), "hooks of all modules and optimizers: "),
    "autocast": (
        lambda: torch.set_autocast_enabled("cuda", True),
        lambda _: torch.set_autocast_enabled("cuda", False),
        "torch._C.is_autocast_enabled: False -> True",
    ),
    "warnings": (
        lambda: torch.set_warn_always(True),
        lambda _: torch.set_warn_always(False),
        "torch._C._get_warnAlways: False -> True",
    ),
    "fresh memory": (
        lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
        lambda _: setattr(torch.utils.deterministic, "fill_uninitialized_memory", True),
        "torch._C._get_deterministic_fill_uninitialized_memory: True -> False",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_that_was_changed(name: str, tmp_path: Path) -> None:
    change, undo, told = CHANGES[name]
    guard = Guard()
    assert guard.changes(tmp_path) == []
    made = change()
    try:
        found = guard.changes(tmp_path)
    finally:
        undo(made)
    assert any(each.startswith(told) for each in found) and guard.changes(tmp_path) == []


def test_functions_of_pytorchs_own_in_each_others_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    monkeypatch.setattr(torch.nn.GELU, "forward", torch.nn.SiLU.forward)
    assert guard.planted(tmp_path) == []
    (found,) = guard.planted(tmp_path, everywhere=True)
    assert found == "torch.nn.modules.activation.GELU.forward was replaced"


def test_settings_of_the_compiler_that_were_not_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo.config as settings

    guard = Guard()
    with settings.patch(suppress_errors=True):
        assert "torch._dynamo.config.suppress_errors = True was set for everybody" in guard.planted(tmp_path, True)
    assert guard.planted(tmp_path, everywhere=True) == []


def test_warnings_that_are_errors(tmp_path: Path) -> None:
    guard = Guard()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = guard.changes(tmp_path)
    assert found == ["warnings: shown -> errors", "warnings of arithmetic: shown -> errors"]


def test_a_function_of_this_project_in_another_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    with monkeypatch.context() as patch:
        slower = functools.partial(schedules.weight_decay_multiplier, 0.1)
        patch.setattr(schedules, "weight_decay_multiplier", slower)
        found = guard.changes(tmp_path, last=True)
    assert "autoresearch_trainer.optim.weight_decay_multiplier was replaced" in found
    assert guard.changes(tmp_path, last=True) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_native_code_sets_without_python(tmp_path: Path) -> None:
    guard, libc = Guard(), ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    before = libc.signal(signal.SIGCHLD, 1)
    try:
        assert any(each.startswith("signals ignored, and caught") for each in guard.changes(tmp_path))
    finally:
        libc.signal(signal.SIGCHLD, before)
    assert guard.changes(tmp_path) == []


def test_a_function_in_a_class_that_nobody_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, object] = {}
    exec(compile("def forward(self, x):\n    return x", str(tmp_path / "kernel.py"), "exec"), made)
    guard = Guard()
    assert guard.planted(tmp_path) == []
    monkeypatch.setattr(torch.nn.Linear, "forward", made["forward"])
    monkeypatch.setattr(torch.optim, "quicker", made["forward"], raising=False)
    assert set(guard.planted(tmp_path, everywhere=True)) == {
        "Linear.forward was replaced",
        "torch.nn.modules.linear.Linear.forward was replaced",
        "torch.optim.quicker was replaced",
    }


def test_defaults_of_a_function_and_constants_of_this_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    monkeypatch.setattr(torch.nn.functional.layer_norm, "__defaults__", (None, None, 0.5))
    monkeypatch.setattr(optim, "NEWTON_SCHULZ_STEPS", 4)
    name = "torch.nn.functional.layer_norm"
    assert guard.changes(tmp_path) == [f"what is given where nothing is of {name} was replaced"]
    assert f"{optim.__name__}.NEWTON_SCHULZ_STEPS is 4, not 5" in guard.changes(tmp_path, last=True)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system ties no thread to cores")
def test_a_thread_that_is_tied_to_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("there is one core")
    monkeypatch.delenv("OMP_PROC_BIND", raising=False)
    guard, tied, end = Guard(), threading.Event(), threading.Event()

    def work() -> None:
        os.sched_setaffinity(0, {min(cores)})
        tied.set()
        end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    tied.wait()
    try:
        assert any(each.startswith("cores of threads: ") for each in guard.changes(tmp_path))
        monkeypatch.setenv("OMP_PROC_BIND", "true")  # the user's own wish
        assert Guard().changes(tmp_path) == []
    finally:
        end.set()
        thread.join()
