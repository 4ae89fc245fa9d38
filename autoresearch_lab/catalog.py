"""The catalogue: kernels/*/target.toml read into `Target` and `Kernel`."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from autoresearch_common import workload
from autoresearch_common.hashing import file_sha256, json_sha256, kernel_hash
from autoresearch_common.oracles import load_oracle
from autoresearch_common.reading import BadFile, first_error, read_toml
from autoresearch_common.workload import Scalar
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.hardware import has_apple_gpu
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.paths import Root
from autoresearch_lab.results.base import KernelId
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.probe.identity import installed

Role = Literal["baseline", "library", "candidate"]
PUBLIC = "reference_public.py"


class Argument(StrictModel):
    """One parameter of a target's signature. values: those that the trainer may give a scalar, by some setting; empty
    where it depends on shapes."""

    name: str
    kind: Literal["array", "scalar"]
    grad: bool = False
    inplace: bool = False
    values: list[Scalar] = []
    doc: str = ""


class Output(StrictModel):
    """One result of a target. `dtype` is a dtype's name or `like:<argument>`."""

    name: str
    dtype: str
    shape: str = ""
    doc: str = ""


class Tolerance(StrictModel):
    """How wrong a kernel may be: error <= max(factor x the largest of the trusted implementations, floor of
    the dtype)."""

    factor: float = Field(gt=0, le=100)
    reason: str = ""
    floor: dict[str, Annotated[float, Field(ge=0, le=1)]]
    floor_reason: dict[str, str] | str = ""


class KernelEntry(StrictModel):
    """A kernel as target.toml lists it."""

    name: str
    framework: Literal["torch", "mlx"]
    devices: list[str]
    role: Role
    language: str
    file: str = Field(pattern=r"^\w+\.py$")
    summary: str = ""
    # A package without which the file cannot be loaded, as pip calls it.
    requires: str = Field("", pattern=r"^[\w-]*$")


class Contract(StrictModel):
    """The whole of a target.toml."""

    name: str
    summary: str
    signature: str
    phase: Literal["forward", "optimizer"]
    replaces: list[str] = []
    args: list[Argument]
    outputs: list[Output]
    tolerance: Tolerance
    kernels: list[KernelEntry]


@dataclass(frozen=True)
class Kernel:
    """A kernel file of the catalogue (or of a workspace) with its content hash."""

    target: str
    name: str
    framework: str
    devices: tuple[str, ...]
    role: Role
    language: str
    path: Path
    summary: str = ""
    requires: str = ""

    @cached_property
    def sha256(self) -> str:
        return kernel_hash(self.path)

    @property
    def id(self) -> KernelId:
        """As records name it."""
        return KernelId(name=self.name, sha256=self.sha256)

    @cached_property
    def parts(self) -> frozenset[str]:
        """The smaller targets whose selected kernels it calls: those that its file names in `part("...")`."""
        calls = [node for node in syntax_nodes(self.path) if isinstance(node, ast.Call) and node.args]
        named = [(getattr(c.func, "id", getattr(c.func, "attr", None)), c.args[0]) for c in calls]
        constants = (a.value for name, a in named if name == "part" and isinstance(a, ast.Constant))
        return frozenset(value for value in constants if isinstance(value, str))

    def plain(self) -> dict[str, str]:
        """The same as JSON."""
        return self.file.to_json()

    @property
    def file(self) -> KernelFile:
        """As a job takes it."""
        return KernelFile(self.target, self.name, str(self.path), self.sha256)

    def made_for(self, framework: str, device: str) -> bool:
        """Whether it is a kernel of that framework for that kind of device."""
        return self.framework == framework and device in self.devices

    def runs_on(self, framework: str, device: str) -> bool:
        """Whether this machine can run it on such a device: those in Metal need an Apple GPU, which MLX can do
        without, and those of a library need it installed."""
        return self.made_for(framework, device) and (self.language != "metal" or has_apple_gpu()) and self.installed

    @property
    def installed(self) -> bool:
        """Whether the package that it calls is there."""
        # Not by its modules: the folder flash_attn is there whichever of two packages is.
        return not self.requires or installed(self.requires) is not None

    def obstacle(self, device: str) -> str:
        """In words, why it does not run on a kind of device."""
        if self.language == "metal":
            return "needs an Apple GPU, and this machine has none"
        if not self.installed:
            return f"needs the Python package {self.requires}, which is not installed"
        return f"is for {', '.join(self.devices)}, not for {device}"


@dataclass(frozen=True)
class Target:
    """A target: its contract, its oracle and its kernels."""

    contract: Contract
    folder: Path
    kernels: tuple[Kernel, ...] = field(default=())

    @property
    def name(self) -> str:
        return self.contract.name

    @property
    def missing(self) -> list[KernelEntry]:
        """What is listed and has no file."""
        return [entry for entry in self.contract.kernels if not (self.folder / entry.file).is_file()]

    @property
    def differentiable(self) -> bool:
        return any(argument.grad for argument in self.contract.args)

    def parts_replaced(self, kernel: Kernel) -> frozenset[str]:
        """The smaller targets whose work `kernel`, one of this target's, does itself: their kernels are not called."""
        return frozenset(self.contract.replaces) - kernel.parts

    @cached_property
    def contract_sha256(self) -> str:
        """Hash of everything that decides right or wrong: the contract less its list of kernels, the oracle, and what
        the oracle rests on (the oracles of the targets that it replaces, the helpers that all oracles share), and the
        public formula."""
        contract = self.contract.model_dump(mode="json", exclude={"kernels"})
        parts = [self.folder.parent / name / "oracle.py" for name in self.contract.replaces]
        files = [self.folder / "oracle.py", *(part for part in parts if part.is_file()), Path(workload.__file__)]
        found: dict[str, object] = {"contract": contract, "oracle": [file_sha256(path) for path in files]}
        if self.public:
            found["public"] = self.public.sha256
        return json_sha256(found)

    @cached_property
    def oracle(self) -> ModuleType:
        """The oracle module (NumPy float64), loaded from its file."""
        return load_oracle(self.folder.parent, self.name)

    def kernel(self, name: str, framework: str) -> Kernel:
        """The kernel of that name.

        Raises:
            LabError: there is none for this framework.
        """
        for kernel in self.kernels:
            if kernel.name == name and kernel.framework == framework:
                return kernel
        for entry in self.missing:
            if entry.name == name and entry.framework == framework:
                raise LabError(f"kernel {self.name}={name}: its file is missing: {self.folder / entry.file}")
        known = ", ".join(kernel.name for kernel in self.kernels if kernel.framework == framework) or "none"
        raise LabError(f"target {self.name} has no {framework} kernel '{name}'; known: {known}")

    def with_role(self, role: Role, framework: str, device: str) -> list[Kernel]:
        return [kernel for kernel in self.kernels if kernel.role == role and kernel.runs_on(framework, device)]

    @cached_property
    def public(self) -> Kernel | None:
        """The formula as public trainers write it in PyTorch, where it is another one than the baseline's."""
        path = self.folder / PUBLIC
        return Kernel(self.name, path.stem, "torch", ("cpu",), "library", "python", path) if path.is_file() else None

    def trusted(self, framework: str, device: str) -> list[Kernel]:
        """The implementations whose errors a kernel may have: the baseline first, then on PyTorch's CPU the libraries
        that need no compiler and the public formula.

        Raises:
            LabError: the target is not implemented in this engine.
        """
        members = [self.baseline(framework, device)]
        if (framework, device) == ("torch", "cpu"):
            libraries = self.with_role("library", framework, device)
            members += [kernel for kernel in libraries if kernel.language == "python"]
            members += [self.public] if self.public else []
        return members

    def baseline(self, framework: str, device: str) -> Kernel:
        """The kernel that the trainer uses by default.

        Raises:
            LabError: the target is not implemented in this engine.
        """
        found = self.with_role("baseline", framework, device)
        if not found:
            raise LabError(f"target {self.name} has no {framework} baseline on {device}")
        return found[0]


def syntax_nodes(path: Path) -> list[ast.AST]:
    """All nodes of a Python file; none where it cannot be read or parsed: what is wrong with it shows when it is
    loaded."""
    try:
        return list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return []


def load_catalog(root: Root) -> dict[str, Target]:
    """All targets by name, in alphabetical order.

    Raises:
        LabError: a target.toml cannot be read, or the oracle or a baseline is missing.
    """
    # A link that leads nowhere must be told of, and a glob would leave it out.
    paths = [folder / "target.toml" for folder in sorted(root.kernels.glob("*"))]
    targets = {path.parent.name: _load_target(path) for path in paths if os.path.lexists(path)}
    if not targets:
        raise LabError(f"no targets under {root.kernels}")
    return targets


def find_target(catalog: dict[str, Target], name: str) -> Target:
    """The target of that name.

    Raises:
        LabError: there is none; the message lists those there are.
    """
    if name not in catalog:
        raise LabError(f"unknown target '{name}'; known: {', '.join(catalog)}")
    return catalog[name]


def _load_target(path: Path) -> Target:
    try:
        with files_at_hand(f"cannot read {path}"):
            contract = Contract.model_validate(read_toml(path))
    except ValidationError as error:
        raise LabError(f"{path}: {first_error(error)}") from None
    except BadFile as error:
        raise LabError(str(error)) from None
    folder = path.parent
    if contract.name != folder.name:
        raise LabError(f"{path}: name is '{contract.name}' but the folder is '{folder.name}'")
    # Without another kernel's file everything else goes on: training with it, for instance, by the baseline.
    for needed in ["oracle.py", *(entry.file for entry in contract.kernels if entry.role == "baseline")]:
        if not (folder / needed).is_file():
            raise LabError(f"{path}: {needed} is missing")
    kernels = tuple(
        Kernel(
            target=contract.name,
            name=e.name,
            framework=e.framework,
            devices=tuple(e.devices),
            role=e.role,
            language=e.language,
            path=folder / e.file,
            summary=e.summary,
            requires=e.requires,
        )
        for e in contract.kernels
        if (folder / e.file).is_file()
    )
    return Target(contract, folder, kernels)
