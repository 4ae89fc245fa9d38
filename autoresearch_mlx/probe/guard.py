"""What a kernel has no business changing, looked at before it is loaded and after it ran; see `state` of the shared
probe, to which functions of MLX and its random state are added."""

import os
import sys
import threading
from pathlib import Path

import mlx.core as mx

from autoresearch_mlx.probe import environment
from autoresearch_trainer.probe.state import WATCHED, State, callables, surroundings, threads_of, variables

_WATCHED = (*WATCHED, mx, mx.fast, mx.random, mx.linalg)


class Guard:
    """Remembers the state at its construction; `changes` says what differs now, `glance` what it can say in no time."""

    def __init__(self) -> None:
        self._functions = callables(_WATCHED)
        self._threads = set(threading.enumerate())
        self._state, self._variables = state(), variables()
        self._glance = _cheap_state()

    def glance(self) -> list[str]:
        """A few things that a kernel might change and change back before the next whole look."""
        return environment.changes(self._glance, _cheap_state())

    def changes(self, kernel_folder: Path) -> list[str]:
        """What differs from the remembered state, in words. `kernel_folder`: threads running code from there count."""
        now, around = state(), variables()
        found = environment.changes(self._state, now)
        for name in sorted(set(self._variables) | set(around)):
            if self._variables.get(name) != around.get(name):
                found.append(f"environment variable {name}: {self._variables.get(name)} -> {around.get(name)}")
        for (place, name), value in self._functions.items():
            if vars(place).get(name) is not value:
                found.append(f"{place.__name__}.{name} was replaced")
        return found + threads_of(kernel_folder, self._threads)


def state() -> State:
    """The state now; values are compared, not interpreted."""
    return {**environment.snapshot(), **surroundings()}


def _cheap_state() -> State:
    return {
        "default device": str(mx.default_device()),
        "subnormals kept (main thread)": sys.float_info.min / 2 > 0.0,
        "working folder": os.getcwd(),
    }
