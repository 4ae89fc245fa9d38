"""Reader of A/B records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoresearch_lab.report import format as form
from autoresearch_lab.report.readers.dig import dig, first, mappings, real, reals, results, settings, text
from autoresearch_lab.report.views import AB, Curve, Estimate, Gate, Source
from autoresearch_lab.results.record import Record

GATE_TITLES = {
    "environment": "leaves the process alone",
    "speed": "speed",
    "gain": "delivers the promise",
    "divergence": "first steps",
    "neutral": "loss at equal tokens",
    "benefit": "loss at equal time",
}


def read(record: Record, source: Source) -> AB:
    gates = results(record, "gates")
    chosen = _kernels(record)
    speed, neutral, benefit, gain = (dig(gates, name) for name in ("speed", "neutral", "benefit", "gain"))
    return AB(
        source=source,
        title=" + ".join(f"{target}={name}" for target, (name, _) in chosen.items()) or "A/B",
        contents={target: sha256 for target, (_, sha256) in chosen.items()},
        over=_over(record),
        preset=text(first(settings(record, "preset"), results(record, "preset"))),
        verdict=record.verdict or "",
        reason=text(results(record, "reason")),
        ratio=_bounded(speed, "ratio"),
        process_ratios=tuple(reals(results(record, "process_ratios"))),
        before_tokens_s=real(results(record, "tokens_per_second", "baseline")),
        after_tokens_s=real(results(record, "tokens_per_second", "candidate")),
        before_bpb=real(results(record, "val_bpb", "baseline")),
        after_bpb=real(results(record, "val_bpb", "candidate")),
        equal_time_bpb=real(results(record, "val_bpb", "candidate_equal_time")),
        deltas=_deltas(results(record, "neutral")),
        delta=_bounded(neutral, "delta"),
        margin=real(dig(neutral, "margin")),
        benefit=_bounded(benefit, "delta"),
        gates=tuple(_gate(name, gates[name]) for name in _in_order(gates)),
        losses=_losses(results(record, "losses")),
        divergence=_divergence(dig(gates, "divergence")),
        predicted=real(dig(gain, "predicted")),
        realised=real(dig(gain, "realised")),
    )


def _kernels(record: Record) -> dict[str, tuple[str, str]]:
    """{target: (name, content hash)} of the candidate."""
    chosen = settings(record, "candidate")
    if isinstance(chosen, Mapping):
        return {target: (text(dig(kernel, "name")), text(dig(kernel, "sha256"))) for target, kernel in chosen.items()}
    return {record.target: (record.kernel.name, record.kernel.sha256)} if record.target and record.kernel else {}


def _over(record: Record) -> tuple[str, ...]:
    """What the other arm used beside baseline kernels (whose names all end in `_eager`), less what was replaced."""
    other = settings(record, "baseline")
    names = (
        {target: text(dig(kernel, "name")) for target, kernel in other.items()} if isinstance(other, Mapping) else {}
    )
    return tuple(f"{target}={name}" for target, name in names.items() if name and not name.endswith("_eager"))


def _bounded(gate: Any, value: str) -> Estimate | None:
    """A gate's value between its `lower` and `upper` bound."""
    point = real(dig(gate, value))
    if point is None:
        return None
    return Estimate(point, real(dig(gate, "lower")), real(dig(gate, "upper")), real(dig(gate, "level")))


def _deltas(rows: Any) -> tuple[tuple[str, float], ...]:
    """(seed, difference of val_bpb) of every pair."""
    pairs = [(str(row.get("seed")), real(row.get("delta"))) for row in mappings(rows)]
    return tuple((seed, delta) for seed, delta in pairs if delta is not None)


def _losses(curves: Any) -> tuple[Curve, ...]:
    """Training loss step by step, as the record holds it: the mean over seeds."""
    named = (
        ("baseline", "baseline"),
        ("candidate_equal_time", "candidate at equal time"),
        ("candidate", "candidate at equal tokens"),
    )
    return tuple(curve for key, label in named if (curve := _curve(dig(curves, key), label)) is not None)


def _curve(values: Any, label: str) -> Curve | None:
    numbers = reals(values)
    return Curve(label, tuple(float(step) for step in range(1, len(numbers) + 1)), tuple(numbers)) if numbers else None


def _in_order(gates: Any) -> list[str]:
    """Names of the gates as they are judged (records sort their keys)."""
    names = list(gates) if isinstance(gates, Mapping) else []
    known = list(GATE_TITLES)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def _gate(name: str, gate: Any) -> Gate:
    unit = {"speed": "ratio", "divergence": "ratio", "neutral": "bpb", "benefit": "bpb"}.get(name, "fraction")
    estimate = _bounded(gate, {"ratio": "ratio", "bpb": "delta", "fraction": "realised"}[unit])
    passed = dig(gate, "passed")
    bound = ""
    margin = real(dig(gate, "margin"))
    if name == "speed" and margin is not None:
        bound = f"lower end above {form.times(margin)}"
    elif unit == "bpb" and margin is not None:
        bound = f"upper end below {form.signed(margin)}"
    elif name == "divergence" and real(dig(gate, "limit")) is not None:
        bound = f"at most {form.times(real(dig(gate, 'limit')))}"
    elif name == "gain" and real(dig(gate, "predicted")) is not None:
        bound = f"half of the predicted {form.percent(real(dig(gate, 'predicted')))}"
    return Gate(GATE_TITLES.get(name, name), passed if isinstance(passed, bool) else None, estimate, unit, bound,
                text(dig(gate, "note")))  # fmt: skip


def _divergence(gate: Any) -> tuple[Curve, ...]:
    """Root mean square over seeds of the loss's distance to the baseline's, step by step."""
    named = (("control", "baseline, one ulp moved"), ("candidate", "candidate"))
    return tuple(curve for key, label in named if (curve := _curve(dig(gate, key), label)) is not None)


def brief(found: AB) -> str:
    parts = []
    if found.ratio:
        parts.append(f"tokens/s {form.times_interval(found.ratio)}")
    if found.delta:
        parts.append(f"Δ val_bpb {form.signed_interval(found.delta)}")
    return ", ".join(parts) or found.reason
