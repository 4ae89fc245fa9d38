"""Profile: where the real training step spends its time, what could be saved, and the calls it is made of."""

from autoresearch_lab.profile.run import ensure_workloads, take_profile
from autoresearch_lab.profile.schema import Profile, load, save
from autoresearch_lab.results.profile import TargetTimes

__all__ = ["Profile", "TargetTimes", "ensure_workloads", "load", "save", "take_profile"]
