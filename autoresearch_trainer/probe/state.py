"""What a kernel has no business changing that is no framework's: the floating-point environment, environment variables,
working folder, random state of Python and NumPy, signal handlers, the process's limits, how malloc behaves, threads and
processes left running, functions replaced by others.
"""

import builtins
import ctypes
import gc
import hashlib
import inspect
import json
import locale
import logging
import math
import operator
import os
import platform
import random
import resource
import signal
import statistics
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from autoresearch_trainer.probe import allocator
from autoresearch_trainer.probe.background import Background

WATCHED: tuple[ModuleType | type, ...] = (
    builtins, ctypes, gc, hashlib, inspect, json, math, os, random, signal, statistics, sys, threading, time, np,
)  # fmt: skip
_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGSEGV, signal.SIGFPE, signal.SIGUSR1, signal.SIGSYS),
    *(signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU, signal.SIGXFSZ),
)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIBC = ctypes.CDLL(None)
# Of Linux's prctl.
_PR_GET_TIMERSLACK, _PR_GET_THP_DISABLE = 30, 42
# What torch itself replaces in `Module` when it first traces.
_OF_TRACING = ("__init__", "__setstate__")
# What a function that is written in Python runs, and with what where nothing is given.
_CODE = operator.attrgetter("__code__", "__defaults__", "__kwdefaults__")
# Variables by which OpenMP ties threads to cores.
_TYING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
_PLAIN = (bool, int, float, str, bytes, tuple, frozenset)
# Objects that the collector leaves alone from the start: some 400 in Python 3.12, none in other versions. Measuring
# gives them back (`gc.unfreeze`), which is nothing that a kernel did.
_FROZEN = gc.get_freeze_count()
# Files that a library may open for itself.
MOST_OPEN = 64
PROJECT = ("autoresearch_common", "autoresearch_cuda", "autoresearch_mlx", "autoresearch_trainer")


# The state of the process that no kernel may change, as an engine sees it.
State = dict[str, object]
Snapshot = Callable[[], State]


class GuardBase:
    """Remembers the state at its construction; `changes` says what differs now, `glance` what it can say in no time.

    watched: modules and classes whose functions are compared. own_variables: how the names of environment variables
    begin that the framework sets itself. watches_memory: how malloc and the garbage collector behave is compared as
    well.
    """

    watched: tuple[ModuleType | type, ...] = WATCHED
    own_variables: tuple[str, ...] = ()
    watches_memory = True

    def __init__(self) -> None:
        self._functions = callables(self.watched)
        self._written = {
            place: {name: value for name, value in functions.items() if getattr(value, "__code__", None) is not None}
            for place, functions in self._functions.items()
        }
        self._codes = {place: list(map(_CODE, written.values())) for place, written in self._written.items()}
        self._constants, self._project = _constants(), _functions()
        self._threads = set(threading.enumerate())
        self._state, self._variables = self._whole_state(), _variables()
        self._cheap_state = self.cheap_state()
        self._open, self._import_path = _open_files(), list(sys.path)
        self._background = Background()  # last: the frameworks' own threads are there by now

    def state(self) -> State:
        """The state now; values are compared, not interpreted."""
        raise NotImplementedError

    def _whole_state(self) -> State:
        return {**self.state(), **({**allocator.behaviour(), **collector()} if self.watches_memory else {})}

    def cheap_state(self) -> State:
        """A few things that a kernel might change and change back before the next whole look."""
        return {"subnormals kept (main thread)": sys.float_info.min / 2 > 0.0, "working folder": os.getcwd()}

    def replaced(self, current: Any, original: Any) -> bool:
        """Whether somebody else than the framework put a function in another one's place."""
        return current is not original

    def glance(self, pattern: int) -> list[str]:
        """What differs of the cheap state, in words. pattern: the byte that fresh memory is filled with."""
        found = changes(self._cheap_state, self.cheap_state())
        return found if allocator.fills_with(pattern) else [*found, "malloc: fresh memory is not filled any more"]

    def changes(self, kernel_folder: Path, last: bool = False) -> list[str]:
        """What differs from the remembered state, in words. `kernel_folder`: threads running code from there count.
        last: nothing is called any more, so it is watched a while whether work goes on."""
        around = _variables()
        found = changes(self._state, self._whole_state())
        for name in sorted(set(self._variables) | set(around)):
            before, after = self._variables.get(name), around.get(name)
            if before != after and not name.startswith(self.own_variables):
                found.append(f"environment variable {name}: {before} -> {after}")
        # Compared in C, by identity first: this is done after every case.
        for place, functions in self._functions.items():
            current = list(map(vars(place).get, functions))
            if current != list(functions.values()):
                pairs = zip(functions.items(), current, strict=True)
                replaced = [name for (name, value), other in pairs if self.replaced(other, value)]
                found += [f"{place.__name__}.{name} was replaced" for name in replaced]
        for place, written in self._written.items():
            codes = list(map(_CODE, written.values()))
            if codes != self._codes[place]:
                for name, own, other in zip(written, codes, self._codes[place], strict=True):
                    if own != other:
                        what = "the code" if own[0] is not other[0] else "what is given where nothing is"
                        found.append(f"{what} of {place.__name__}.{name} was replaced")
        if last:
            constants = _constants()
            found += [
                f"{name} is {constants.get(name)}, not {value}"
                for name, value in self._constants.items()
                if constants.get(name) != value
            ]
            functions = _functions()
            found += [
                f"{name} was replaced"
                for name, held in self._project.items()
                if not all(map(operator.is_, functions.get(name, (None, None)), held))
            ]
        if (more := _open_files() - self._open) > MOST_OPEN:
            found.append(f"{more} more files are open")
        if sys.path[: len(self._import_path)] != self._import_path:  # what comes after them, PyTorch's compiler adds to
            found.append("the folders in which modules are looked for first were changed")
        return found + _threads_of(kernel_folder, self._threads) + self._background.found(last)

    def set_while_loading(self) -> list[str]:
        """What loading a kernel set that the framework itself sets when it is used, in words."""
        return []

    def planted(self, kernel_folder: Path, everywhere: bool = False) -> list[str]:
        """What takes longer to find, in words: functions that are the kernel's, in this project's modules and where
        there was none of that name before. everywhere: in all modules that are loaded, which takes 0.2 s."""
        return _planted(kernel_folder, self.watched, everywhere)


def changes(before: State, after: State) -> list[str]:
    """What differs, in words; empty where nothing does."""
    return [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]


def numerics() -> State:
    """The floating-point environment of this thread, and which cores at which priority."""
    return {
        "subnormals kept (main thread)": sys.float_info.min / 2 > 0.0,
        "rounding mode": _call("fegetround"),
        "floating-point control": floating_control(),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cores of threads": _of_threads(lambda task: sorted(os.sched_getaffinity(task)), _TYING),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "priority of threads": _of_threads(lambda task: os.getpriority(os.PRIO_PROCESS, task)),
        "scheduling": _system("sched_getscheduler", 0),
        "timer slack": _system("prctl", _PR_GET_TIMERSLACK, 0, 0, 0, 0),
        "huge pages left out": _system("prctl", _PR_GET_THP_DISABLE, 0, 0, 0, 0),
        **limits(),
    }


def floating_control() -> tuple[int, ...]:
    """What this thread's registers say of precision, roundings, traps and subnormals; empty on other processors than
    x86-64 and AArch64. What calculations leave there, flags, is left out."""
    if not hasattr(_LIBC, "fegetenv"):
        return ()
    environment = (ctypes.c_uint32 * 16)()
    _LIBC.fegetenv(environment)
    if platform.machine() == "x86_64" and platform.system() == "Linux":
        # glibc's fenv_t: the control word of the x87 unit in the first half of the first word, MXCSR in the eighth.
        return environment[0] & 0xFFFF, environment[7] & ~0x3F & 0xFFFF
    return (environment[0],) if platform.machine() == "aarch64" and platform.system() == "Linux" else ()


def _of_threads(ask: Callable[[int], Any], unless: Iterable[str] = ()) -> list[Any]:
    """What this process's threads have, each value once; empty where the system does not tell. unless: variables of the
    environment with which a thread gets its own when it is made."""
    found: list[Any] = []
    if any(name in os.environ for name in unless):
        return []
    for task in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it has ended
            found.append(ask(int(task.name)))
    return sorted(each for number, each in enumerate(found) if each not in found[:number])


def _of_this_project() -> Iterator[tuple[str, Any]]:
    """What this project's modules that are loaded hold, by module and name."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in PROJECT:
            yield from ((f"{module.__name__}.{each}", value) for each, value in list(vars(module).items()))


def _constants() -> State:
    """The values of this project's constants."""
    found = _of_this_project()
    return {name: value for name, value in found if name.rpartition(".")[2].isupper() and isinstance(value, _PLAIN)}


def _functions() -> dict[str, tuple[Any, Any]]:
    """This project's functions, and the code of each."""
    return {name: (value, value.__code__) for name, value in _of_this_project() if isinstance(value, FunctionType)}


def limits() -> State:
    """The system's limits on this process, (soft, hard); what the kernel of a call may not move."""
    names = [name for name in vars(resource) if name.startswith("RLIMIT_")]
    return {f"limit {name.removeprefix('RLIMIT_')}": resource.getrlimit(getattr(resource, name)) for name in names}


def surroundings() -> State:
    """The process around the kernel; values are compared, not interpreted."""
    return {
        "working folder": os.getcwd(),
        "random state (Python)": hash(random.getstate()),
        "random state (NumPy)": _numpy_random_state(),
        "NumPy error handling": str(np.geterr()),
        "how NumPy prints numbers": str(np.get_printoptions()),
        "trace function": repr(sys.gettrace()) + repr(sys.getprofile()),
        **{f"handler of {number.name}": repr(signal.getsignal(number)) for number in _SIGNALS},
        "signals ignored, and caught": _dispositions(),
        "timers": [signal.getitimer(number) != (0.0, 0.0) for number in _TIMERS],
        "timers of the system": _text("/proc/self/timers"),
        "process group and session": (os.getpgrp(), os.getsid(0)),
        "where the standard streams lead": [_leads(number) for number in range(3)],
        "signals held back": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "rights of new files": _umask(),
        "warnings": _warned(UserWarning),
        "warnings of arithmetic": _warned(RuntimeWarning),
        "what is done at errors": (id(sys.excepthook), id(sys.unraisablehook), id(threading.excepthook)),
        "standard output": (id(sys.stdout), id(sys.stderr)),
        "turns of threads": sys.getswitchinterval(),
        "stacks of new threads": threading.stack_size(),
        "locale": locale.setlocale(locale.LC_ALL),
        "log messages left out": (logging.root.manager.disable, logging.root.level),
        "allocations traced": tracemalloc.is_tracing(),
    }


def _dispositions() -> list[str]:
    """The sets of signals that this process ignores and catches, as the system has them: native code changes them
    without Python's noticing. Empty where the system does not tell."""
    return [line for line in _text("/proc/self/status").splitlines() if line.startswith(("SigIgn", "SigCgt"))]


def _leads(descriptor: int) -> tuple[int, int, bool] | None:
    """Which file a descriptor stands for, and whether whoever uses it waits; None where it is closed."""
    try:
        about = os.fstat(descriptor)
        return about.st_dev, about.st_ino, os.get_blocking(descriptor)
    except OSError:
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _warned(kind: type[Warning]) -> str:
    """What becomes of such warnings where nothing is said of their module and text."""
    for action, text, category, module, _ in warnings.filters:
        if action in ("ignore", "error") and text is None and module is None and issubclass(kind, category):
            return "silenced" if action == "ignore" else "errors"
    return "shown"


def collector() -> State:
    """How Python collects garbage."""
    return {
        "garbage collector": gc.isenabled(),
        "garbage thresholds": gc.get_threshold(),
        "garbage kept": gc.get_freeze_count() > _FROZEN,
        "garbage callbacks": len(gc.callbacks),
        "garbage collector's debugging": gc.get_debug(),
    }


def _numpy_random_state() -> int:
    name, keys, *rest = np.random.get_state(legacy=True)
    return hash((name, keys.tobytes(), *rest))  # type: ignore[union-attr]


def callables(places: Iterable[ModuleType | type]) -> dict[ModuleType | type, dict[str, Any]]:
    """The functions of some modules and classes as they are now, operators such as `__add__` included."""
    return {
        place: {name: value for name, value in vars(place).items() if callable(value) and name not in _OF_TRACING}
        for place in places
    }


def _planted(folder: Path, watched: Iterable[ModuleType | type], everywhere: bool) -> list[str]:
    """Functions whose code is the kernel's, in words: in the watched places, where an operator may have been inherited,
    and in this project's modules and their classes, which a kernel may be the first to import. everywhere: in all
    modules."""
    found, inside = [], f"{folder}{os.sep}"
    places: dict[ModuleType | type, None] = dict.fromkeys(watched)
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or str(vars(module).get("__file__")).startswith(inside):
            continue
        if everywhere or name.split(".")[0] in PROJECT:
            # Not isinstance: it asks stand-ins of other libraries, which warn.
            own = [value for value in list(vars(module).values()) if issubclass(type(value), type)]
            places |= dict.fromkeys([module, *(value for value in own if value.__module__ == name)])
    for place in places:
        for function, value in list(vars(place).items()):
            if type(value) is FunctionType and value.__code__.co_filename.startswith(inside):
                found.append(f"{place.__name__}.{function} was replaced")
    return found


def _threads_of(folder: Path, before: set[threading.Thread]) -> list[str]:
    """Threads that were not there before and run code from the folder, in words."""
    found = []
    for thread in set(threading.enumerate()) - before:
        code = getattr(getattr(thread, "_target", None), "__code__", None)
        if code is not None and Path(code.co_filename).is_relative_to(folder):
            found.append(f"thread {thread.name} of the kernel is still running")
    return found


def _variables() -> dict[str, str]:
    """The environment as C code sees it; as Python does where the C library does not show its own."""
    try:
        pointer = ctypes.POINTER(ctypes.c_char_p).in_dll(_LIBC, "environ")
    except ValueError:
        return dict(os.environ)
    found, index = {}, 0
    while pointer and pointer[index]:
        name, _, value = pointer[index].decode("utf-8", "replace").partition("=")
        found[name] = value
        index += 1
    return found


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _open_files() -> int:
    """How many this process has open; 0 where the system does not list them."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _system(function: str, *arguments: int) -> int | None:
    """An integer query of Linux's C library; None elsewhere."""
    return int(getattr(_LIBC, function)(*arguments)) if sys.platform == "linux" else None


def _call(function: str) -> int | None:
    """An integer query of the C library without arguments; None where there is no such function."""
    try:
        return int(getattr(_LIBC, function)())
    except (AttributeError, OSError):
        return None
