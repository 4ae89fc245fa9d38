"""What one call of the suite for a GPU works with: where, on what, for how long, and what it has found so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from autoresearch_lab.campaign.command import Completed, run_command, verb
from autoresearch_lab.campaign.steps import StepEnd, TimeBox
from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root

REHEARSED = "relu_squared"
Found = TypeVar("Found", bound=BaseModel)


@dataclass
class Setting:
    """rehearse: the same path on a CPU, small, through Triton's interpreter. first: a first try, small as well. out:
    what is brought back goes there.

    dataset: its name in the data folder. only: targets to look at (None: all that have a Triton kernel). ends: how the
    parts of this call ended, by name.
    """

    out: Path
    root: Root
    rehearse: bool = False
    dataset: str = "stdlib"
    only: tuple[str, ...] | None = None
    first: bool = False
    ends: dict[str, StepEnd] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """Where the parts keep what they do not bring back as it is."""
        return self.root.path / "results" / "gpu" / "work"

    @property
    def small(self) -> bool:
        """Whether it is to be seen that all works, and not how fast."""
        return self.rehearse or self.first

    @property
    def engine(self) -> str:
        """The engine whose verbs are called, and the device that is trained on."""
        return "cpu" if self.rehearse else "cuda"

    @property
    def preset(self) -> str:
        return "cpu-nano" if self.small else "upstream"

    @cached_property
    def catalog(self) -> dict[str, Target]:
        return load_catalog(self.root)

    @cached_property
    def lab(self) -> Lab:
        return Lab(self.root, self.engine)

    @property
    def every_kernel(self) -> list[Kernel]:
        """The catalogue's Triton kernels."""
        return [kernel for target in self.catalog.values() for kernel in target.kernels if kernel.language == "triton"]

    @property
    def kernels(self) -> list[Kernel]:
        """Those that are looked at; where it is small, one of them."""
        wanted = self.only or ((REHEARSED,) if self.small else None)
        return [kernel for kernel in self.every_kernel if wanted is None or kernel.target in wanted]

    @property
    def timed(self) -> list[Kernel]:
        """The kernels that are benched: the same, and in a rehearsal the C++ kernels in their place."""
        if not self.rehearse:
            return self.kernels
        targets = [self.catalog[kernel.target] for kernel in self.kernels]
        return [kernel for target in targets for kernel in target.kernels if kernel.language == "cpp"]

    @cached_property
    def context(self) -> Context | None:
        """The GPU and its software, as records carry them; None in a rehearsal, whose ledger is its own."""
        return None if self.rehearse else self.lab.context

    @property
    def device_key(self) -> str | None:
        return self.context.device["key"] if self.context else None

    def found(self, kind: type[Found]) -> Found | None:
        """What the part of this call that finds this kind found; None where it did not come to that."""
        return next((end.found for end in self.ends.values() if isinstance(end.found, kind)), None)

    def verb(self, box: TimeBox, *words: str, threads: int | None = None) -> Completed:
        """A verb of the lab with --json. threads: that it may compute with."""
        variables = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        return self.run(box, verb(self.lab, self.engine, *words, "--json"), "-".join(words[:2]), variables)

    def run(
        self, box: TimeBox, command: Sequence[str], name: str, variables: Mapping[str, str] | None = None
    ) -> Completed:
        """A command; all that it printed is kept where it ended without an answer."""
        done = run_command(command, box, variables)
        if done.code != 0 and not (done.code == 1 and done.out.startswith("{")):
            self.keep_failure(name, f"{' '.join(command)}\n{done.reason}\n\n{done.printed}\n")
        return done

    def keep_failure(self, name: str, text: str) -> None:
        """For the archive: what went wrong, in whole."""
        plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
        folder = self.work / "failures"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{plain}-{len(list(folder.iterdir()))}.txt").write_text(text, encoding="utf-8")


def separate_root(folder: Path) -> Root:
    """A lab of its own with this checkout's kernels and data, so that a rehearsal leaves no trace in the real one, nor
    a first try."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("kernels", "data"):
        if (CHECKOUT / name).exists() and not (folder / name).exists():
            (folder / name).symlink_to(CHECKOUT / name)
    return Root(folder)
