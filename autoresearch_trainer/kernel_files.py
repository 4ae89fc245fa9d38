"""Loads kernel files: what stands between an engine and `kernels/<target>/`.

A kernel is a Python file that defines a function with its target's name (plus an optional native source with the same
stem). It is named by path and content hash, executed once as a fresh module, and never looked up again: what runs is
what was selected, or loading fails.
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from autoresearch_common.hashing import kernel_hash
from autoresearch_trainer.errors import KernelChanged, KernelError

Kernel = Callable[..., Any]
Resolver = Callable[[str], Kernel]

KERNELS_ROOT = Path(__file__).resolve().parents[1] / "kernels"

# The targets of both engines: what the model and the optimizer call, and the parts that those are composed of.
TARGETS = (
    "rms_norm",
    "rope",
    "attention_mask",
    "windowed_attention",
    "newton_schulz",
    "softcap_cross_entropy",
    "relu_squared",
    "value_gate",
    "residual_mix",
    "adamw_update",
    "muon_update",
    "qk_prelude",
    "residual_norm",
    "mlp",
    "loss_head",
)

# What an engine does before the code of a kernel runs, given all that this process has loaded, that kernel the last.
before_loading: list[Callable[[Sequence["KernelFile"]], None]] = []
_loaded: list["KernelFile"] = []
_modules: list[ModuleType] = []
_module_numbers = itertools.count()
_resolver: ContextVar[Resolver | None] = ContextVar("resolver of the kernel file being loaded", default=None)


@dataclass(frozen=True)
class KernelFile:
    """One kernel: its target, its name, the absolute path of its Python file, and the content hash of what it was."""

    target: str
    name: str
    path: str
    sha256: str

    @classmethod
    def at(cls, target: str, path: Path, name: str | None = None) -> "KernelFile":
        """The kernel at `path` as it is now. Raises KernelError if there is no such file."""
        path = Path(path).resolve()
        if not path.is_file():
            raise KernelError(f"no kernel file for target {target!r} at {path}")
        return cls(target, name or path.stem, str(path), kernel_hash(path))

    @classmethod
    def of(cls, value: "KernelFile | Mapping[str, str]") -> "KernelFile":
        """Accept the JSON form {"target", "name", "path", "sha256"} as well."""
        if isinstance(value, KernelFile):
            return value
        missing = {"target", "name", "path", "sha256"} - set(value)
        if missing:
            raise KernelError(f"kernel description lacks {', '.join(sorted(missing))}: {dict(value)}")
        return cls(value["target"], value["name"], value["path"], value["sha256"])

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def load_kernel(file: KernelFile, parts: Resolver | None = None) -> Kernel:
    """Execute the kernel file as a fresh module and return its function.

    `parts` resolves the smaller targets that the file asks for through `part`; without it those are the baseline
    kernels. Raises KernelChanged if the content is not what `file.sha256` says, KernelError if the file is missing,
    fails to execute, or does not define a callable with the target's name.
    """
    path = Path(file.path)
    if not path.is_file():
        raise KernelError(f"{file.target}={file.name}: no such file: {path}")
    found = kernel_hash(path)
    if found != file.sha256:
        raise KernelChanged(
            f"{file.target}={file.name} was edited: {path} has content {found[:12]}, selected was {file.sha256[:12]}"
        )
    _loaded.append(file)
    for prepare in before_loading:
        prepare(_loaded)
    module = _fresh_module(path, file)
    with _resolving(parts):
        try:
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        except KernelError:
            del sys.modules[module.__name__]
            raise
        except (Exception, SystemExit) as error:
            del sys.modules[module.__name__]
            raise KernelError(f"{file.target}={file.name} does not load: {type(error).__name__}: {error}") from error
    _modules.append(module)
    function = getattr(module, file.target, None)
    if not callable(function):
        raise KernelError(f"{file.target}={file.name}: {path} defines no function {file.target!r}")
    return function


def loaded_modules() -> Sequence[ModuleType]:
    """The kernel files that were executed, as modules."""
    return _modules


@dataclass(frozen=True)
class InstalledKernels:
    """What one engine asks of the kernels: the targets that its model and optimizer call, and its baseline's name."""

    targets: tuple[str, ...]
    baseline: str

    def installed_kernel(self, target: str, name: str | None = None) -> KernelFile:
        """The kernel `name` (default: the baseline) in this project's `kernels/<target>/`.

        Raises KernelError naming the kernels that exist.
        """
        name = name or self.baseline
        if target not in self.targets:
            raise KernelError(f"unknown target {target!r}; known: {', '.join(self.targets)}")
        path = KERNELS_ROOT / target / f"{name}.py"
        if not path.is_file():
            names = sorted(p.stem for p in path.parent.glob("*.py") if p.stem != "oracle")
            raise KernelError(f"unknown kernel {name!r} for target {target!r}; known: {', '.join(names) or 'none'}")
        return KernelFile.at(target, path, name)

    def part(self, target: str) -> Kernel:
        """The kernel of a smaller target, for the top level of a kernel file that is composed of others.

        While a run loads its kernels this is the kernel selected for `target`, so that replacing a part reaches into
        the composite. In a file that is imported on its own it is the baseline kernel.
        """
        resolver = _resolver.get()
        return resolver(target) if resolver else load_kernel(self.installed_kernel(target))


@contextmanager
def _resolving(parts: Resolver | None) -> Iterator[None]:
    token = _resolver.set(parts)
    try:
        yield
    finally:
        _resolver.reset(token)


def _fresh_module(path: Path, file: KernelFile) -> ModuleType:
    """An empty registered module. Compiled from source text rather than imported, so that no stale .pyc can be used;
    registered in sys.modules, because torch.compile looks a traced function's globals up there."""
    module = ModuleType(f"_kernel_{next(_module_numbers)}_{file.target}_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    return module
