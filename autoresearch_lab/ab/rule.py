"""The rule: from measurements to gates and from gates to a verdict. Pure functions.

Units are independent processes (speed) and seeds (val_bpb). Every bound is a one-sided t bound at the level `alpha` of
one look; with two looks the error of the whole is at most twice that (Bonferroni). The gates are joined by "and": a
false promotion needs a false pass of the gate that should have failed, so no further correction is due.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from scipy.special import stdtrit

from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.results.ab import CheckedMode, GateNumbers, Stretch
from autoresearch_lab.results.base import Mode
from autoresearch_lab.statistics import t_interval, t_upper

DIVERGENCE_FLOOR = 1e-4  # nats; in small models the control may not move at all at first, and this harms nobody


class GateState(Enum):
    """How a gate stands. OPEN: the data do not decide; more of it may."""

    PASS = True
    FAIL = False
    OPEN = None


@dataclass(frozen=True)
class Gate:
    """One gate: its state, one line that says why, and its numbers."""

    name: str
    state: GateState
    note: str
    numbers: GateNumbers = field(default_factory=GateNumbers)

    def recorded(self) -> GateNumbers:
        """As a record carries it."""
        return self.numbers.model_copy(update={"passed": self.state.value, "note": self.note})


def speed_gate(log_ratios: Sequence[float], settings: Settings) -> Gate:
    """Gate 1. log_ratios: ln(baseline seconds / candidate seconds) per process; > 0 = the candidate is faster."""
    bounds = t_interval(log_ratios, settings.alpha)
    hopeless = t_upper(log_ratios, settings.futility_alpha)
    needed = math.log1p(settings.speed_margin)
    shape = bounds.ratio()
    shown = f"x{shape.point:.3f} [{shape.low:.3f}, {shape.high:.3f}] over {len(log_ratios)} processes"
    if bounds.low > needed:
        state, note = GateState.PASS, f"faster in the trainer: {shown}"
    elif hopeless < needed:
        state, note = GateState.FAIL, f"no gain in the trainer: {shown}"
    else:
        state, note = GateState.OPEN, f"too noisy to tell: {shown}, needed above x{1 + settings.speed_margin:.2f}"
    numbers = GateNumbers(
        ratio=shape.point,
        lower=shape.low,
        upper=shape.high,
        level=1 - settings.alpha,
        sd_log=statistics.stdev(log_ratios),
        margin=1 + settings.speed_margin,
        at_most=math.exp(hopeless),
        at_most_level=1 - settings.futility_alpha,
    )
    return Gate("speed", state, note, numbers)


def loss_gate(name: str, deltas: Sequence[float], settings: Settings) -> Gate:
    """Gates 2 ("neutral") and 3 ("benefit"). deltas: val_bpb candidate - baseline per seed; < 0 = better.

    Bounds: mean ± t(1 - alpha, sd_df) · max(sd_floor, s) / √n. The s.d. is never taken to be less than what paired runs
    showed beforehand (it brings the degrees of freedom): a handful of seeds can look calmer than they are.
    """
    mean, deviation = statistics.fmean(deltas), statistics.stdev(deltas)
    reach = float(stdtrit(settings.sd_df, 1 - settings.alpha))
    half = reach * max(settings.sd_floor, deviation) / math.sqrt(len(deltas))
    lower, upper = mean - half, mean + half
    shown = f"{mean:+.4f} [{lower:+.4f}, {upper:+.4f}] over {len(deltas)} seeds"
    if upper < settings.margin:
        state, note = GateState.PASS, f"val_bpb {shown}, within the margin of {settings.margin}"
    elif lower > settings.margin:
        state, note = GateState.FAIL, f"val_bpb is worse: {shown}, margin {settings.margin}"
    else:
        state, note = GateState.OPEN, f"val_bpb not settled: {shown}, margin {settings.margin}"
    numbers = GateNumbers(
        delta=mean, lower=lower, upper=upper, level=1 - settings.alpha, sd=deviation, margin=settings.margin
    )
    return Gate(name, state, note, numbers)


def in_place_gate(found: Mapping[Mode, CheckedMode], used: Mode) -> Gate:
    """Whether every sampled call in a training was right. used: the mode that the candidate races in; in that one it
    has to train while it is checked."""
    wrong = [(mode, one.checked["wrong"]) for mode, one in found.items() if one.checked and one.checked["wrong"]]
    if wrong:
        mode, words = wrong[0]
        return Gate("in_place", GateState.FAIL, f"{mode}: {words}")
    here = found[used]
    if here.checked is None and here.seconds is not None:
        return Gate("in_place", GateState.FAIL, f"{used}: it does not train while it is checked: {here.not_checked}")
    return Gate("in_place", GateState.PASS, "; ".join(f"{mode}: {_looked_at(one)}" for mode, one in found.items()))


def _looked_at(one: CheckedMode) -> str:
    """How much was compared in one mode, of the target with the fewest calls."""
    if one.checked is None:
        return f"not checked in place ({one.not_checked})"
    targets = one.checked["targets"]
    rarest = min(targets, key=lambda target: targets[target]["checked"], default=None)
    bound = targets[rarest]["bound"] if rarest is not None else None
    if bound is None:
        return f"no call of {rarest or 'it'} checked in place"
    calls = sum(target["checked"] for target in targets.values())
    return f"{calls:,} calls right, so at most {bound:.1%} of {rarest}'s wrong"


def divergence_gate(
    candidate: Sequence[Sequence[float]],
    control: Sequence[Sequence[float]],
    settings: Settings,
    rounding: Sequence[Sequence[float]] | None = None,
) -> Gate:
    """Whether the first steps run away from the baseline faster than one unit in the last place makes them.

    rounding: the same of the baseline with the candidate's targets computed in float32. Where the baseline's own
    rounding makes more of a difference than one unit, `rounding_share` of that counts in its place: a kernel that
    computes exactly is as far away.

    candidate, control: per seed the differences of the training loss to the baseline's, step by step; same lengths.
    The statistic is the ratio of the two root mean squares over seeds, taken in three stretches of the course (rounding
    grows by orders of magnitude along it, so that one sum would only see its end); the largest ratio counts. It is
    taken with each seed left out in turn, and the smallest of these counts, so that no seed decides by itself. With two
    seeds none is left out: the one that remained would decide.
    """
    ours, theirs = np.asarray(candidate, dtype=np.float64), np.asarray(control, dtype=np.float64)
    if not np.isfinite(ours).all():
        return Gate(
            "divergence",
            GateState.FAIL,
            "the training loss is not finite",
            GateNumbers(limit=settings.divergence_limit),
        )
    steps = min(ours.shape[1], theirs.shape[1])
    edges = sorted({0, max(1, steps // 4), max(1, steps // 2), steps})
    stretches = list(zip(edges, edges[1:], strict=False))
    exact = None if rounding is None else np.asarray(rounding, dtype=np.float64)

    def ratios_without(seed: int) -> list[float]:
        mine, one, wide = _without(ours, seed), _without(theirs, seed), None if exact is None else _without(exact, seed)
        found = []
        for start, end in stretches:
            one_unit = _rms(one[:, start:end])
            more = 0.0 if wide is None else settings.rounding_share * _rms(wide[:, start:end])
            found.append(_ratio(_rms(mine[:, start:end]), max(one_unit, more)))
        return found

    ratios = min((ratios_without(seed) for seed in range(len(ours))), key=max)
    ratio = max(ratios)
    passed = ratio <= settings.divergence_limit
    scale = "one unit in the last place"
    if exact is not None:
        scale = f"{scale} or, where more, {settings.rounding_share:g} of what the baseline's own rounding makes"
    note = f"first {steps} steps: {ratio:.2f} x the divergence of {scale}"
    if len(ours) > 2:
        note += ", also without the seed that differs most"
    numbers = GateNumbers(
        ratio=ratio,
        limit=settings.divergence_limit,
        steps=steps,
        stretches=[
            Stretch(steps=[start + 1, end], ratio=value) for (start, end), value in zip(stretches, ratios, strict=True)
        ],
        candidate=_by_step(ours),
        control=_by_step(theirs),
        rounding=[] if exact is None else _by_step(exact),
    )
    return Gate("divergence", GateState.PASS if passed else GateState.FAIL, note, numbers)


def gain_gate(ratio: float, predicted_saved: float | None, settings: Settings, basis: str = "") -> Gate:
    """Realised gain against the predicted one, both as the saved fraction of the step: 1 - 1 / ratio. basis: what the
    prediction rests on, or why there is none, in words.

    Saved time adds up over kernels and is what share x (1 - 1 / speed-up) predicts. A kernel that delivers less than
    half of it either was benchmarked on something else than the trainer does, or costs elsewhere what it saves. The
    tolerance is what profile and race can resolve; without it tiny predictions would fail by noise alone.
    """
    realised = 1 - 1 / ratio
    numbers = GateNumbers(realised=ratio - 1, realised_saved=realised)
    if predicted_saved is None:
        return Gate("gain", GateState.PASS, f"realised {ratio - 1:+.1%}; {basis}", numbers)
    numbers.predicted, numbers.predicted_saved = 1 / (1 - predicted_saved) - 1, predicted_saved
    passed = realised + settings.gain_tolerance >= settings.gain_share * predicted_saved
    shown = f"saves {realised:.1%} of the step, predicted {predicted_saved:.1%} ({basis})"
    note = shown if passed else f"realised gain under half of the predicted one: {shown}"
    return Gate("gain", GateState.PASS if passed else GateState.FAIL, note, numbers)


def verdict(gates: Sequence[Gate], complete: bool) -> tuple[str, str]:
    """(PROMOTE | REJECT | UNDECIDED, reason). `complete`: every gate was reached."""
    failed = [gate for gate in gates if gate.state is GateState.FAIL]
    undecided = [gate for gate in gates if gate.state is GateState.OPEN]
    if failed:
        return "REJECT", f"{failed[0].name}: {failed[0].note}"
    if undecided:
        return "UNDECIDED", f"{undecided[0].name}: {undecided[0].note}"
    if not complete:
        raise ValueError("a verdict without all gates")
    return "PROMOTE", "; ".join(gate.note for gate in gates if gate.name in ("speed", "neutral"))


def equal_time_steps(steps: int, speed_lower: float) -> int:
    """Steps of the candidate in the time that the baseline needs for `steps`, by the lower bound of its speed."""
    return math.floor(steps * speed_lower)


def _without(rows: np.ndarray, seed: int) -> np.ndarray:
    """The rows of the other seeds; all, where only one other would decide."""
    return np.delete(rows, seed, axis=0) if len(rows) > 2 and seed < len(rows) else rows


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def _by_step(values: np.ndarray) -> list[float]:
    return np.sqrt((values**2).mean(0)).tolist()


def _ratio(ours: float, theirs: float) -> float:
    return ours / max(theirs, DIVERGENCE_FLOOR)
