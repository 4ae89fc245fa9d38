"""What the lab needs of this engine: jobs, each run in a process of its own; see `autoresearch_trainer.jobs`."""

from autoresearch_trainer.probe import Jobs, Report

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
    "throughput": ("training", "throughput"),
    "train": ("training", "train"),
    "evaluate": ("training", "evaluate"),
    "check": ("training", "check"),
}

JOBS = Jobs(__name__, _PLACES)
