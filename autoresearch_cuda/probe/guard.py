"""What a kernel has no business changing, looked at before it is loaded and after it ran.

Beside the numerical environment (see `environment`): environment variables, working folder, random state of Python and
NumPy, modes left switched on, signal handlers, threads left running, and functions of time, torch and the probe itself
replaced by others.
"""

import builtins
import ctypes
import gc
import hashlib
import inspect
import json
import math
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from autoresearch_cuda.probe import environment

_WATCHED: tuple[ModuleType | type, ...] = (
    builtins, ctypes, gc, hashlib, inspect, json, math, os, random, signal, statistics, sys, threading, time, np,
    torch, torch.Tensor, torch.autograd, torch.autograd.Function, torch.linalg, torch.testing, torch.cuda, functional,
)  # fmt: skip
# Set by torch's own compiler when it is first used.
_TORCH_VARIABLES = ("TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_", "TORCH_")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGSEGV, signal.SIGFPE, signal.SIGUSR1)


class Guard:
    """Remembers the state at its construction; `changes` says what differs now, `glance` what it can say in no time."""

    def __init__(self) -> None:
        self._functions = {(place, name): value for place in _WATCHED for name, value in _callables(place)}
        self._threads = set(threading.enumerate())
        self._state, self._variables = state(), _variables()
        self._glance = _cheap_state()

    def glance(self) -> list[str]:
        """A few things that a kernel might change and change back before the next whole look."""
        return environment.changes(self._glance, _cheap_state())

    def changes(self, kernel_folder: Path) -> list[str]:
        """What differs from the remembered state, in words. `kernel_folder`: threads running code from there count."""
        now, variables = state(), _variables()
        found = environment.changes(self._state, now)
        for name in sorted(set(self._variables) | set(variables)):
            before, after = self._variables.get(name), variables.get(name)
            if before != after and not name.startswith(_TORCH_VARIABLES):
                found.append(f"environment variable {name}: {before} -> {after}")
        for (place, name), value in self._functions.items():
            current = vars(place).get(name)
            if current is not value and not _wrapped_by_torch(current, value):
                found.append(f"{place.__name__}.{name} was replaced")
        for thread in set(threading.enumerate()) - self._threads:
            code = getattr(getattr(thread, "_target", None), "__code__", None)
            if code is not None and Path(code.co_filename).is_relative_to(kernel_folder):
                found.append(f"thread {thread.name} of the kernel is still running")
        return found


def state() -> dict[str, Any]:
    """The state now; values are compared, not interpreted."""
    return {
        **environment.snapshot(),
        "working folder": os.getcwd(),
        "random state (Python)": _digest(repr(random.getstate())),
        "random state (NumPy)": _digest(repr(np.random.get_state())),
        "NumPy error handling": str(np.geterr()),
        "inference mode": torch.is_inference_mode_enabled(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "saved-tensor hooks": torch._C._autograd._saved_tensors_hooks_is_enabled(),
        "default device": str(torch.get_default_device()),
        "trace function": repr(sys.gettrace()) + repr(sys.getprofile()),
        **{f"handler of {number.name}": repr(signal.getsignal(number)) for number in _SIGNALS},
    }


def _cheap_state() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "random state": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:16],
        "subnormals kept (main thread)": sys.float_info.min / 2 > 0.0,
        "working folder": os.getcwd(),
    }


def _callables(place: ModuleType | type) -> list[tuple[str, Callable]]:
    return [(name, value) for name, value in vars(place).items() if callable(value) and not name.startswith("__")]


def _wrapped_by_torch(current: Any, original: Any) -> bool:
    """torch wraps some of its own functions (manual_seed) when its compiler is first imported."""
    code = getattr(current, "__code__", None)
    own = code is not None and Path(code.co_filename).is_relative_to(Path(torch.__file__).parent)
    return own and getattr(current, "__wrapped__", None) is original


def _variables() -> dict[str, str]:
    """The environment as C code sees it; as Python does where the C library does not show its own."""
    try:
        pointer = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    except ValueError:
        return dict(os.environ)
    found, index = {}, 0
    while pointer and pointer[index]:
        name, _, value = pointer[index].decode("utf-8", "replace").partition("=")
        found[name] = value
        index += 1
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
