"""Which native code a kernel brought along, and a stand-in for it that does nothing.

If a kernel's results stay right while its native functions do nothing, they come from somewhere else: the native code
is there for show.
"""

import ctypes
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autoresearch_trainer.kernel_files import loaded_modules


class NoOps:
    """Counts what was replaced and how often the stand-ins were called."""

    def __init__(self) -> None:
        self.functions: set[str] = set()
        self.calls = 0

    def install_for_libraries(self, folders: list[Path]) -> None:
        """Every C function taken through ctypes from a library below `folders` becomes one that returns 0 at once.

        Has to happen before the kernel is loaded.
        """
        original = ctypes.CDLL.__getitem__
        noops = self

        def lookup(library: ctypes.CDLL, name: str) -> Any:
            path = Path(library._name or "")
            if any(path.is_relative_to(folder) for folder in folders):
                return noops.stand_in(f"{path.name}:{name}")
            return original(library, name)

        ctypes.CDLL.__getitem__ = lookup  # type: ignore[method-assign]

    def install_for_triton(self) -> None:
        """Launches of Triton kernels do nothing; has to happen after the kernel is loaded."""
        jit = sys.modules.get("triton.runtime.jit")
        if jit is not None:
            stand_in = self.stand_in("triton")
            jit.JITFunction.run = lambda self, *args, **kwargs: stand_in()
            interpreter = sys.modules.get("triton.runtime.interpreter")
            if interpreter is not None:
                interpreter.GridExecutor.__call__ = lambda self, *args, **kwargs: stand_in()

    def stand_in(self, name: str) -> "_NoOp":
        self.functions.add(name)
        return _NoOp(self)


class _NoOp:
    """A C function that does nothing; takes `argtypes` and `restype` as a real one does."""

    def __init__(self, counter: NoOps) -> None:
        self._counter = counter

    def __call__(self, *args: Any) -> int:
        self._counter.calls += 1
        return 0


def loaded_libraries(folders: list[Path]) -> list[str]:
    """Shared objects below `folders` that are mapped into this process; empty where the system does not say."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/") and len(line.split(maxsplit=5)) == 6}
    return sorted(path for path in paths if any(Path(path).is_relative_to(folder) for folder in folders))


def uses_triton(function: Callable[..., Any]) -> bool:
    """Whether the module that defines the kernel holds Triton kernels."""
    return any(type(value).__module__.startswith("triton.") for value in definitions(function).values())


def definitions(function: Callable) -> dict[str, Any]:
    """What the module that defines the kernel holds by name; a decorator such as torch.no_grad() is looked through.
    What is no function (an operator of torch.library, a module) does not say where it is from; its file holds it."""
    found = getattr(inspect.unwrap(function), "__globals__", None)
    if found is not None:
        return found
    held = (vars(module) for module in loaded_modules())
    return next((each for each in held if any(value is function for value in each.values())), {})
