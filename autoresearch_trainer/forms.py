"""What kernels return is looked at where the trainer calls them: how many arrays, of which shapes and dtypes.

A result that broadcasts, or is rounded to another dtype, would go on as another model than the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from autoresearch_trainer import contract
from autoresearch_trainer.contract import CallContract
from autoresearch_trainer.errors import EngineError, KernelFailed
from autoresearch_trainer.kernel_files import InstalledKernels, Kernel, KernelFile

# (shape, dtype) of an array; anything else as it is.
Form = Any


class Forms:
    """Looks at the first call of each signature, in each mode, of every kernel that is not the baseline's content. The
    baseline's results have the right form; they are not computed for it. `wrong`: what was found, None if nothing."""

    def __init__(self, selection: Mapping[str, Any], installed: InstalledKernels, framework: str, device: str) -> None:
        files = {target: KernelFile.of(file) for target, file in selection.items()}
        self.kernels = {t: f for t, f in files.items() if f.sha256 != installed.installed_kernel(t).sha256}
        self.contracts: dict[str, CallContract] = {t: contract.read(t, framework, device) for t in self.kernels}
        self.wrong: str | None = None

    def wrap(self, target: str, function: Kernel) -> Kernel:
        """For `Ops.load`: the kernel with its first calls looked at; the baseline as it is."""
        return self._watched(target, function) if target in self.kernels else function

    def _watched(self, target: str, function: Kernel) -> Callable[..., Any]:
        """The engine's own part of `wrap`."""
        raise NotImplementedError

    def positional(self, target: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments of a call in their order."""
        names = self.contracts[target].arguments[len(args) :]
        return (*args, *(named[name] for name in names if name in named))

    def compare(self, target: str, found: Sequence[Form], wanted: Sequence[Form]) -> None:
        """Raises KernelFailed where the results of a call have another form than the baseline's."""
        if len(found) != len(wanted):
            self.fail(target, f"returned {len(found)} values, not {len(wanted)}")
        for name, mine, right in zip(self.contracts[target].outputs, found, wanted, strict=False):
            if mine != right:
                self.fail(target, f"returned {name} as {_words(mine)}, not {_words(right)}")

    def fail(self, target: str, what: str) -> None:
        """Raises KernelFailed, which is kept for those whom it does not reach."""
        self.wrong = self.wrong or f"kernel {target}={self.kernels[target].name} {what}"
        raise KernelFailed(self.wrong)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Around a step. Raises KernelFailed where a compiler swallowed it, or was led astray by such a result."""
        try:
            yield
        except EngineError:
            raise
        except Exception as error:
            if self.wrong:
                raise KernelFailed(self.wrong) from error
            raise
        if self.wrong:
            raise KernelFailed(self.wrong)


def listed(returned: Any) -> list[Any]:
    """The results of a call: one value, or several, as a list."""
    return list(returned) if isinstance(returned, (tuple, list)) else [returned]


def _words(form: Form) -> str:
    if not (isinstance(form, tuple) and len(form) == 2):
        return type(form).__name__
    return f"{list(form[0])} {str(form[1]).rpartition('.')[2]}"
