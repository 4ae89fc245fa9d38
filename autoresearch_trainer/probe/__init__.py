"""What the probes of both engines share: how jobs are found, rounds of timing, blocks of a race, and who this is."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Report = Callable[[dict[str, Any]], None]
Job = Callable[[dict[str, Any], Path, Report], dict[str, Any]]


class Jobs(Mapping[str, Job]):
    """Job name -> function. A job's module is imported on first use, so that a small job does not pay for the others.

    package: where the modules lie. places: {job: (module, function)}.
    """

    def __init__(self, package: str, places: Mapping[str, tuple[str, str]]) -> None:
        self._package, self._places = package, places

    def __getitem__(self, name: str) -> Job:
        module, function = self._places[name]
        return getattr(importlib.import_module(f"{self._package}.{module}"), function)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
