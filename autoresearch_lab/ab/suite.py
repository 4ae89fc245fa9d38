"""One verdict from A/Bs with several presets: what helps a small model must not harm a larger one."""

from __future__ import annotations

from collections.abc import Mapping

from autoresearch_lab.results.record import AbRecord

# Reasons of these gates mean harm; a rejection by `speed` or `gain` alone means no help.
HARMFUL = ("environment", "in_place", "divergence", "neutral", "benefit")


def suite_verdict(records: Mapping[str, AbRecord]) -> tuple[str, str]:
    """(PROMOTE | REJECT | UNDECIDED, reason) of {preset: A/B record}.

    PROMOTE needs one preset that says so and no other that is worse: neither a failed gate of harm nor a speed that is
    below the baseline's (upper bound under 1). Merely no faster with some preset is no obstacle.
    """
    worse = {preset: text for preset, record in records.items() if (text := _harm(record))}
    if worse:
        preset, text = next(iter(worse.items()))
        return "REJECT", f"worse with {preset}: {text}"
    undecided = [preset for preset, record in records.items() if record.verdict == "UNDECIDED"]
    if undecided:
        return "UNDECIDED", f"not settled with {', '.join(undecided)}"
    gains = [preset for preset, record in records.items() if record.verdict == "PROMOTE"]
    if not gains:
        return "REJECT", "no gain with any preset"
    return "PROMOTE", f"gains with {', '.join(gains)}, worse with none"


def harm_to_learning(record: AbRecord) -> str | None:
    """Which harm the candidate did in this A/B beside being slow; None where it did none."""
    gates = record.results.gates
    return next((gates[name].note for name in HARMFUL if name in gates and gates[name].passed is False), None)


def _harm(record: AbRecord) -> str | None:
    """In which way the candidate is worse than the baseline in this A/B; None where it is not for sure."""
    if text := harm_to_learning(record):
        return text
    gates = record.results.gates
    speed = gates.get("speed")
    if speed is not None and speed.at_most is not None and speed.at_most < 1.0:
        return speed.note
    if record.verdict == "REJECT" and not any(gate.passed is False for gate in gates.values()):
        return record.results.reason  # it failed in the trainer
    return None
