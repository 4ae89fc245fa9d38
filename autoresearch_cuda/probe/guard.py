"""What a kernel has no business changing, looked at before it is loaded and after it ran.

Beside the numerical environment (see `environment`): environment variables, working folder, random state of Python and
NumPy, modes left switched on, signal handlers, threads left running, and functions of time, torch and the probe itself
replaced by others.
"""

import hashlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional

from autoresearch_cuda.probe import environment
from autoresearch_trainer.probe.state import WATCHED, State, callables, surroundings, threads_of, variables

_WATCHED = (
    *WATCHED, torch, torch.Tensor, torch.autograd, torch.autograd.Function, torch.linalg, torch.testing, torch.cuda,
    functional,
)  # fmt: skip
# Set by torch's own compiler when it is first used.
_TORCH_VARIABLES = ("TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_", "TORCH_")


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
            before, after = self._variables.get(name), around.get(name)
            if before != after and not name.startswith(_TORCH_VARIABLES):
                found.append(f"environment variable {name}: {before} -> {after}")
        for (place, name), value in self._functions.items():
            current = vars(place).get(name)
            if current is not value and not _wrapped_by_torch(current, value):
                found.append(f"{place.__name__}.{name} was replaced")
        return found + threads_of(kernel_folder, self._threads)


def state() -> State:
    """The state now; values are compared, not interpreted."""
    return {
        **environment.snapshot(),
        **surroundings(),
        "inference mode": torch.is_inference_mode_enabled(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "saved-tensor hooks": torch._C._autograd._saved_tensors_hooks_is_enabled(),  # type: ignore[attr-defined]
        "default device": str(torch.get_default_device()),
    }


def _cheap_state() -> State:
    return {
        "threads": torch.get_num_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "random state": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:16],
        "subnormals kept (main thread)": sys.float_info.min / 2 > 0.0,
        "working folder": os.getcwd(),
    }


def _wrapped_by_torch(current: Any, original: Any) -> bool:
    """torch wraps some of its own functions (manual_seed) when its compiler is first imported."""
    code = getattr(current, "__code__", None)
    own = code is not None and Path(code.co_filename).is_relative_to(Path(torch.__file__).parent)
    return own and getattr(current, "__wrapped__", None) is original
