"""What the lab needs of this engine: jobs, each a function `(args, run_dir, report) -> dict` run in its own process.

`JOBS` imports a job's module on first use, so that a small job does not pay for the others.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Report = Callable[[dict[str, Any]], None]
Job = Callable[[dict[str, Any], Path, Report], dict[str, Any]]

_PLACES = {
    "describe": ("describe", "run"),
    "ceilings": ("ceilings", "run"),
    "profile": ("profiler", "run"),
    "call": ("calls", "run"),
    "compile": ("compilation", "run"),
    "time": ("timing", "run"),
    "race": ("race", "run"),
    "train": ("training", "train"),
    "evaluate": ("training", "evaluate"),
}


class _Jobs(Mapping[str, Job]):
    """Job name -> function."""

    def __getitem__(self, name: str) -> Job:
        module, function = _PLACES[name]
        return getattr(importlib.import_module(f"{__name__}.{module}"), function)

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


JOBS: Mapping[str, Job] = _Jobs()
