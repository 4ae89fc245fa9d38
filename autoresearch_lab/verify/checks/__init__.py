"""The checks in their fixed order. Each is a function whose docstring says what it catches."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.checks import bounds, determinism, form, poison, really_ran, stale
from autoresearch_lab.verify.checks.effects import inputs_unchanged, side_effects
from autoresearch_lab.verify.checks.errors import accuracy, gradients
from autoresearch_lab.verify.checks.odd import combinations, held_out, odd
from autoresearch_lab.verify.checks.usable import loads, runs
from autoresearch_lab.verify.comparisons import Comparisons


class Check(NamedTuple):
    """A check by the name that records know."""

    name: str
    check: Callable[[Comparisons], CheckResult]


ORDER = (
    Check("loads", loads),
    Check("runs", runs),
    Check(form.NAME, form.check),
    Check(poison.NAME, poison.check),
    Check("accuracy", accuracy),
    Check("gradients", gradients),
    Check("odd", odd),
    Check("inputs_unchanged", inputs_unchanged),
    Check(determinism.NAME, determinism.check),
    Check(stale.NAME, stale.check),
    Check("combinations", combinations),
    Check("held_out", held_out),
    Check(really_ran.NAME, really_ran.check),
    Check(bounds.NAME, bounds.check),
    Check("side_effects", side_effects),
)
# Without these there is nothing for the others to look at.
NEEDED = ("loads", "runs")
