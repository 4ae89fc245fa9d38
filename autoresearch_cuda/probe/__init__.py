"""What the lab needs of this engine: jobs, each a function `(args, run_dir, report) -> dict` run in its own process."""

from collections.abc import Mapping

from autoresearch_trainer.probe import Job, Jobs, Report

__all__ = ["JOBS", "Report"]

_PLACES = {
    "describe": ("describe", "run"),
    "start": ("start", "run"),
    "ceilings": ("ceilings", "run"),
    "profile": ("profiler", "run"),
    "trace": ("trace", "run"),
    "one_call": ("one_call", "run"),
    "call": ("calls", "run"),
    "compile": ("compilation", "run"),
    "time": ("timing", "run"),
    "race": ("race", "run"),
    "train": ("training", "train"),
    "evaluate": ("training", "evaluate"),
}

JOBS: Mapping[str, Job] = Jobs(__name__, _PLACES)
