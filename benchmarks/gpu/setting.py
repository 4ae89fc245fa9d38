"""What one call of the GPU suite works with: where, on what, for how long, and what is left of its time."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context, context
from autoresearch_lab.paths import CHECKOUT, Root

REHEARSED = "relu_squared"


@dataclass
class Setting:
    """rehearse: the same path on a CPU, small, through Triton's interpreter. out: what is brought back goes there.

    seconds: of the whole call; each part may use its share and what earlier parts left (see `limit`). dataset: its name
    in the data folder. only: targets to look at (None: all that have a Triton kernel). began: when the call did, on the
    monotonic clock.
    """

    out: Path
    root: Root
    rehearse: bool = False
    seconds: float = 540.0
    dataset: str = "stdlib"
    only: tuple[str, ...] | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def work(self) -> Path:
        """Where the parts keep what they do not bring back as it is."""
        return self.root.path / "results" / "gpu" / "work"

    @property
    def left(self) -> float:
        """Seconds until everything has to be over; some are kept for writing the result."""
        return self.began + self.seconds - 10.0 - time.monotonic()

    @property
    def engine(self) -> str:
        """The engine whose verbs are called."""
        return "cpu" if self.rehearse else "cuda"

    @property
    def device(self) -> str:
        return "cpu" if self.rehearse else "cuda"

    @property
    def preset(self) -> str:
        return "cpu-nano" if self.rehearse else "upstream"

    @cached_property
    def catalog(self) -> dict[str, Target]:
        return load_catalog(self.root)

    @cached_property
    def lab(self) -> Lab:
        return Lab(self.root, self.engine)

    @property
    def ledger(self) -> Ledger:
        return self.lab.ledger

    @property
    def kernels(self) -> list[Kernel]:
        """The Triton kernels that are looked at; in a rehearsal one of them, since the interpreter is slow."""
        wanted = self.only or ((REHEARSED,) if self.rehearse else None)
        every = [kernel for target in self.catalog.values() for kernel in target.kernels if kernel.language == "triton"]
        return [kernel for kernel in every if wanted is None or kernel.target in wanted]

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
        return None if self.rehearse else context(ENGINES["cuda"], self.root)

    @property
    def device_key(self) -> str | None:
        return self.context.device["key"] if self.context else None

    def environment(self, interpreted: bool = False) -> dict[str, str]:
        """Of the processes that are started: this one's, with its packages and, where asked, Triton's interpreter."""
        paths = os.pathsep.join(dict.fromkeys(path for path in (str(CHECKOUT), *sys.path) if path))
        return {**os.environ, "PYTHONPATH": paths, **({"TRITON_INTERPRET": "1"} if interpreted else {})}


def rehearsal_root(out: Path) -> Root:
    """A lab of its own with this checkout's kernels and data, so that a rehearsal leaves no trace in the real one."""
    folder = out / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("kernels", "data"):
        if (CHECKOUT / name).exists() and not (folder / name).exists():
            (folder / name).symlink_to(CHECKOUT / name)
    return Root(folder)
