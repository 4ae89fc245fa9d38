"""The kernels that a verb is about. Every verb takes them in the same words, as arguments:

TARGET=NAME             a kernel of the catalogue
TARGET=workspace:DIR    the kernel of a workspace, which has to be one of that target
DIR                     the kernel of a workspace; --workspace DIR means the same
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoresearch_lab.catalog import Kernel, Target, find_target, load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.promote.selection import WORKSPACE

if TYPE_CHECKING:
    from autoresearch_lab.cli.app import Session
    from autoresearch_lab.workspace import Workspace

FORMS = "TARGET=NAME or the folder of a workspace"


class SomePath(click.Path):
    """A path. Click's own takes none at all, such as that of an unset variable, for the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty", param, ctx)
        return super().convert(value, param, ctx)


@dataclass(frozen=True)
class KernelWords:
    """How a kernel was named. `target` is None where a folder alone was, `folder` where it is one of the catalogue."""

    target: str | None
    name: str
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str) -> KernelWords:
        """Take one argument apart; nothing is looked up. Raises LabError for what is neither form."""
        target, separator, choice = (part.strip() for part in text.partition("="))
        if text.strip() and (not separator or Path(text).is_dir()):
            return cls(None, text, Path(text))
        if not target or not choice:
            raise LabError(f"cannot read '{text}': name a kernel as {FORMS}")
        if choice.startswith(WORKSPACE):
            return cls(target, choice, Path(choice.removeprefix(WORKSPACE)))
        return cls(target, choice)

    def subject(self, lab: Lab) -> Target:
        """The target of a kernel of the catalogue. Raises LabError where there is none."""
        return find_target(load_catalog(lab.root), self.target or "")

    def open(self, lab: Lab) -> Workspace:
        """The workspace that is named.

        Raises:
            LabError: see `open_workspace`; a target's name stands there alone, or the workspace is another target's.
        """
        from autoresearch_lab.workspace import open_workspace

        assert self.folder is not None
        if self.target is None and not self.folder.exists() and self.name in (catalog := load_catalog(lab.root)):
            known = ", ".join(dict.fromkeys(kernel.name for kernel in catalog[self.name].kernels))
            raise LabError(f"{self.name} is a target; name one of its kernels as {self.name}=NAME: {known}")
        if self.target is not None:
            find_target(load_catalog(lab.root), self.target)
        opened = open_workspace(self.folder, lab)
        if self.target not in (None, opened.target.name):
            raise LabError(f"{opened.folder} is a workspace of target {opened.target.name}, not {self.target}")
        return opened


@dataclass(frozen=True)
class ChosenKernel:
    """A kernel that was found, its target, and the workspace that it lies in, if any."""

    target: Target
    kernel: Kernel
    workspace: Workspace | None = None


def find(words: KernelWords, lab: Lab, framework: str) -> ChosenKernel:
    """Look a kernel up. framework: "torch" or "mlx", for names of the catalogue.

    Raises:
        LabError: it does not exist.
    """
    if words.folder is None:
        target = words.subject(lab)
        return ChosenKernel(target, target.kernel(words.name, framework))
    opened = words.open(lab)
    return ChosenKernel(opened.target, opened.kernel, opened)


def choose(words: KernelWords, session: Session) -> ChosenKernel:
    """Look a kernel up that is to run on the session's engine.

    Raises:
        LabError: it does not exist, or not for this engine.
    """
    engine = session.lab.engine
    found = find(words, session.lab, engine.framework)
    if found.workspace is not None:
        found.workspace.require_engine(engine.name, session.verb)
    elif not found.kernel.runs_on(engine.framework, engine.device):
        name = f"{found.target.name}={found.kernel.name}"
        raise LabError(f"{session.verb}: {name} {found.kernel.obstacle(f'engine {engine.name}')}")
    return found


def choose_all(named: Sequence[KernelWords], session: Session) -> dict[str, Kernel]:
    """Several kernels that go together, by target.

    Raises:
        LabError: as `choose`, and where a target is named twice.
    """
    chosen = [choose(words, session) for words in named]
    kernels = {one.target.name: one.kernel for one in chosen}
    if len(kernels) != len(chosen):
        raise LabError(f"{session.verb}: a target is named twice; a set has one kernel of each")
    return kernels


def kernel_arguments(least: int = 1, most: int | None = 1) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb the kernels that were named as `named`, from `least` to `most` (None: any number) of them.

    Raises:
        LabError, when the verb is called: too few or too many were named, or some both as argument and as option.
    """
    argument = click.argument("kernels", nargs=-1, metavar="[KERNEL]" if most == 1 else "[KERNEL]...")
    option = click.option("--workspace", type=SomePath(), help="The same as naming its folder.")

    def decorate(callback: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(callback)
        def call(*, kernels: tuple[str, ...], workspace: Path | None, **options: Any) -> None:
            verb = click.get_current_context().info_name
            if kernels and workspace is not None:
                raise LabError(f"{verb}: give a kernel or --workspace DIR, not both")
            if workspace is not None:
                named = [KernelWords(None, str(workspace), workspace)]
            else:
                named = [KernelWords.parse(text) for text in kernels]
            if len(named) < least:
                raise LabError(f"{verb}: name a kernel: {FORMS}")
            if most is not None and len(named) > most:
                raise LabError(f"{verb} takes one kernel at a time, not {len(named)}")
            callback(named=named, **options)

        return argument(option(call))

    return decorate


class KernelCommand(click.Command):
    """The command of a verb with `kernel_arguments`. The options that they once were are answered with the new form."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in ("--kernel", "--target"):
                raise
            if self.name == "extract":
                what = "a target is named by its rank in the profile's table"
                raise click.UsageError(f"extract: there is no {error.option_name}; {what}: --rank N") from None
            if not any(isinstance(each, click.Argument) for each in self.params):
                raise
            words = [word for old in given for word in (old.split("=", 1) if old.startswith("--") else [old])]
            follows = {old: new for old, new in zip(words, words[1:], strict=False) if old in ("--kernel", "--target")}
            kernel, target = follows.get("--kernel", "NAME"), follows.get("--target", "TARGET")
            example = kernel if "=" in kernel else f"{target}={kernel}"
            raise click.UsageError(
                f"{self.name}: there is no {error.option_name}; a kernel is an argument: {self.name} {example}"
            ) from None
