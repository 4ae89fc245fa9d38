"""What the probes of both engines share: how jobs are found, rounds of timing, throughput, and who this is."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs import KINDS, JobAnswer, Report
from autoresearch_trainer.jobs.base import first_problem

__all__ = ["JobFunction", "Jobs", "Report", "Served"]

# What an engine's module defines: takes the job's arguments, the run folder and a way to report; returns its answer.
JobFunction = Callable[[Any, Path, Report], JobAnswer]
# The same with JSON at either end.
Served = Callable[[Mapping[str, Any], Path, Report], dict[str, JsonValue]]


class Jobs(Mapping[str, Served]):
    """Job name -> function of JSON. A job's module is imported on first use, so that a small job does not pay for the
    others.

    package: where the modules lie. places: {job: (module, function)}.
    """

    def __init__(self, package: str, places: Mapping[str, tuple[str, str]]) -> None:
        self._package, self._places = package, places

    def __getitem__(self, name: str) -> Served:
        module, function_name = self._places[name]

        def serve(args: Mapping[str, Any], run_dir: Path, report: Report) -> dict[str, JsonValue]:
            try:
                asked = KINDS[name].args.model_validate(args)
            except ValidationError as error:
                raise ConfigError(f"{name}: {first_problem(error)}") from None
            function: JobFunction = getattr(importlib.import_module(f"{self._package}.{module}"), function_name)
            return function(asked, run_dir, report).model_dump()

        return serve

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
