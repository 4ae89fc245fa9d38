"""What came out of an A/B, in the words and numbers of people; shared by the terminal and the report's page."""

from __future__ import annotations

from autoresearch_lab import format as form
from autoresearch_lab.evidence import judged_kernels
from autoresearch_lab.format import Estimate
from autoresearch_lab.results.ab import GateNumbers
from autoresearch_lab.results.record import AbRecord
from autoresearch_trainer.checks import checked_lines

# In the order of judging; a record's own keys are sorted.
GATE_TITLES = {
    "environment": "leaves the process as it was",
    "speed": "faster in the trainer",
    "gain": "delivers what bench promised",
    "in_place": "right in the trainer",
    "divergence": "first steps",
    "neutral": "loss at equal tokens",
    "benefit": "loss at equal time",
}


def title(record: AbRecord) -> str:
    """target=kernel of the candidate, joined by + for several."""
    return " + ".join(f"{target}={kernel.name}" for target, kernel in judged_kernels(record).items()) or "A/B"


def modes(record: AbRecord) -> str:
    """In which mode the arms trained: `compiled` for both, or `eager against compiled` (the candidate's first)."""
    before, after = record.mode_of("baseline"), record.mode_of("candidate")
    return after if after == before else f"{after} against {before}"


def mode_speeds(record: AbRecord) -> list[str]:
    """Tokens/s of each arm in both modes, a line for each arm that was measured in both."""
    lines = []
    for arm, found in record.results.modes.items():
        if found.eager is not None and found.compiled is not None:
            speeds = f"{form.number(found.eager, 4)} eager, {form.number(found.compiled, 4)} compiled"
            lines.append(f"{arm} arm: {speeds} tokens/s")
    return lines


def checked_in_place(record: AbRecord) -> list[str]:
    """How much of the candidate was checked in place, a line for each kernel and mode."""
    lines = []
    for mode, found in record.results.in_place.items():
        if found.checked is None:
            lines.append(f"not checked in place, {mode}: {found.not_checked}")
        else:
            lines += [f"checked in place, {mode}: {line}" for line in checked_lines(found.checked)]
    return lines


def subject(record: AbRecord) -> str:
    """What was compared: the candidate's kernels, what they were laid over, the preset, and eager or compiled."""
    other = over(record)
    laid = f" on top of {', '.join(other)}" if other else ""
    return f"{title(record)}{laid}{f', {record.settings.preset}' if record.settings.preset else ''}, {modes(record)}"


def over(record: AbRecord) -> tuple[str, ...]:
    """`target=kernel` of the other arm, where that is not the baseline (whose kernels' names all end in `_eager`)."""
    names = {target: kernel.name for target, kernel in record.settings.baseline.items()}
    return tuple(f"{target}={name}" for target, name in names.items() if name and not name.endswith("_eager"))


def gates(record: AbRecord) -> dict[str, GateNumbers]:
    """{name: gate} of those that were reached, in the order of judging."""
    reached = record.results.gates
    return {name: reached[name] for name in [*GATE_TITLES, *reached] if name in reached}


def estimate(gate: GateNumbers | None) -> Estimate | None:
    """What a gate measured (a ratio, a change of val_bpb, or the realised gain) with its bounds."""
    values = (gate.ratio, gate.delta, gate.realised) if gate else ()
    point = next((value for value in values if value is not None), None)
    return Estimate(point, gate.lower, gate.upper, gate.level) if gate and point is not None else None


def speed(record: AbRecord) -> Estimate | None:
    """Tokens per second, candidate / baseline."""
    return estimate(record.results.gates.get("speed"))


def tokens_per_second(record: AbRecord) -> tuple[float | None, float | None]:
    """Before and after."""
    rates = record.results.tokens_per_second
    return rates.get("baseline"), rates.get("candidate")


def val_bpb(record: AbRecord) -> tuple[float | None, float | None, float | None]:
    """Before, after as many tokens, and after as much time."""
    found = record.results.val_bpb
    return found.get("baseline"), found.get("candidate"), found.get("candidate_equal_time")


def gain(ratio: Estimate) -> str:
    """A ratio of speeds as a gain with its interval: +69.0 %, interval +66.4 … +71.5 %."""
    ends = form.gain_interval(ratio)
    return form.percent(ratio.value - 1) + (f", interval {ends}" if ends else "")


def changes(record: AbRecord) -> list[str]:
    """Tokens per second and val_bpb before and after, a line each, as far as they were measured."""
    lines = []
    ratio, (before, after) = speed(record), tokens_per_second(record)
    if before is not None and after is not None:
        shown = f" ({gain(ratio)})" if ratio else ""
        lines.append(f"tokens/s {form.number(before, 4)} → {form.number(after, 4)}{shown}")
    elif ratio:
        lines.append(f"tokens/s {gain(ratio)}")
    first, last, at_equal_time = val_bpb(record)
    equal_time = f"{form.bpb(at_equal_time)} at equal time" if at_equal_time is not None else ""
    if first is not None and last is not None:
        tokens = f"val_bpb {form.bpb(first)} → {form.bpb(last)} at equal tokens"
        lines.append(", ".join(filter(None, (tokens, equal_time))))
    elif equal_time:
        lines.append(equal_time)
    return lines


def outcome(record: AbRecord) -> str:
    """All that came out, in a sentence, and the speeds in both modes in another."""
    found = ", ".join(changes(record))
    both = "".join(f" {line[0].upper()}{line[1:]}." for line in mode_speeds(record))
    return f"{found}.{both}" if found else record.results.reason or "No numbers recorded."
