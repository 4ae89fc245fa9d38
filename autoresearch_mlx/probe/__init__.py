"""What the lab needs of this engine: jobs, each run in a process of its own; see `autoresearch_trainer.jobs`."""

from autoresearch_trainer.probe import Jobs, Report

__all__ = ["JOBS", "Report"]

_PLACES = {
    "describe": ("describe", "run"),
    "ceilings": ("ceilings", "run"),
    "profile": ("profiler", "run"),
    "call": ("calls", "run"),
    "time": ("timing", "run"),
    "throughput": ("training", "throughput"),
    "train": ("training", "train"),
    "evaluate": ("training", "evaluate"),
    "check": ("training", "check"),
    "gputrace": ("gputrace", "run"),
}

JOBS = Jobs(__name__, _PLACES)
