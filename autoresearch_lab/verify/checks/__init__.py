"""The checks in their fixed order. Each is a module with a NAME, a docstring that says what it catches, and `check`."""

from __future__ import annotations

from types import ModuleType

from autoresearch_lab.verify.checks import (
    accuracy,
    determinism,
    form,
    gradients,
    held_out,
    inputs_unchanged,
    loads,
    odd,
    poison,
    really_ran,
    runs,
    side_effects,
    stale,
)

ORDER: tuple[ModuleType, ...] = (
    loads,
    runs,
    form,
    poison,
    accuracy,
    gradients,
    odd,
    inputs_unchanged,
    determinism,
    stale,
    held_out,
    really_ran,
    side_effects,
)
# Without these there is nothing for the others to look at.
NEEDED = (loads.NAME, runs.NAME)
