"""Numbers, times and intervals as people read them; shared by the report's page and every table on a terminal.

All functions take None for "not recorded" and answer with a dash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

DASH = "–"
MINUS = "−"
MOST_NAMES = 3


@dataclass(frozen=True)
class Estimate:
    """A measured value with its interval; `low` or `high` is None where the interval is open on that side."""

    value: float
    low: float | None = None
    high: float | None = None
    level: float | None = None  # confidence level, 0..1


# From here on nobody counts digits.
MOST_PLAIN = 1e12


def number(value: float | None, digits: int = 3) -> str:
    """Significant digits, thousands separated: 1234.5 -> 1,234; 0.01234 -> 0.0123; 2e31 -> 2.00e+31."""
    if value is None:
        return DASH
    if value and not 1e-4 <= abs(value) < MOST_PLAIN:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace("-", MINUS)
    return f"{value:,.{digits}g}".replace("-", MINUS)


def not_enforced(names: Sequence[str]) -> str:
    """What of the confinement did not hold, for people: ` not enforced: reads, network and 2 more`; empty for none."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"not enforced: {', '.join(names[:MOST_NAMES])}{more}" if names else ""


def times(value: float | None) -> str:
    """A ratio: 1.034×, 13.9×."""
    if value is None:
        return DASH
    return f"{value:.3f}×" if value < 2 else f"{value:.2f}×" if value < 10 else f"{value:.1f}×"


def times_interval(estimate: Estimate | None) -> str:
    """A ratio with its interval: 1.82× [1.80, 1.84]."""
    if estimate is None:
        return DASH
    return times(estimate.value) + times_bounds(estimate)


def times_bounds(estimate: Estimate) -> str:
    """The interval of a ratio behind it, or in a column of its own: ` [1.80, 1.84]`."""
    return bounds(estimate, lambda end: times(end).rstrip("×"))


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as signed percentage: 0.123 -> +12.3 %."""
    return DASH if value is None else f"{100 * value:+.{digits}f} %".replace("-", MINUS)


def share(value: float | None) -> str:
    """A fraction as percentage without a sign."""
    return DASH if value is None else f"{100 * value:.1f} %"


def gain_interval(ratio: Estimate | None) -> str:
    """The ends of a speed ratio as gains: +79.8 … +83.9 %; empty where there is no interval."""
    low, high = (ratio.low, ratio.high) if ratio else (None, None)
    if low is not None and high is not None:
        return f"{percent(low - 1).removesuffix(' %')} … {percent(high - 1)}"
    if low is not None:
        return f"at least {percent(low - 1)}"
    return f"at most {percent(high - 1)}" if high is not None else ""


def signed(value: float | None, digits: int = 4) -> str:
    return DASH if value is None else f"{value:+.{digits}f}".replace("-", MINUS)


def signed_interval(estimate: Estimate | None, digits: int = 4) -> str:
    """A difference with its interval: +0.0004 [−0.0009, +0.0017]."""
    if estimate is None:
        return DASH
    return signed(estimate.value, digits) + bounds(estimate, lambda end: signed(end, digits))


def bounds(estimate: Estimate, form: Callable[[float], str]) -> str:
    """` [low, high]`, with … for an open side; empty where both are open."""
    if estimate.low is None and estimate.high is None:
        return ""
    ends = ["…" if end is None else form(end) for end in (estimate.low, estimate.high)]
    return f" [{ends[0]}, {ends[1]}]"


def signed_bounds(estimate: Estimate | None, digits: int = 4) -> str:
    return "" if estimate is None else bounds(estimate, lambda end: signed(end, digits)).strip()


def percent_interval(estimate: Estimate | None) -> str:
    """A fraction with its interval: +12.3 % [+11.0 %, +13.5 %]."""
    return DASH if estimate is None else percent(estimate.value) + bounds(estimate, percent)


def bpb(value: float | None) -> str:
    return DASH if value is None else f"{value:.4f}"


def milliseconds(value: float | None) -> str:
    if value is None or value == 0:
        return DASH if value is None else "0"
    return f"{value:,.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """3:05, or 1:02:03 from an hour on."""
    if seconds is None:
        return DASH
    whole = round(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole % 3600 // 60:0{2 if hours else 1}}:{whole % 60:02}"


def moment(text: str | None) -> str:
    """An ISO time as `2026-05-04 13:37 UTC`; what is no such time stays as it is."""
    if not text:
        return DASH
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{parsed.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if parsed.tzinfo else text


def short(identity: str | None, length: int = 10) -> str:
    return DASH if not identity else identity[:length]


def level(value: float | None) -> str:
    """A confidence level: 0.99 -> 99 %."""
    return "" if value is None else f"{100 * value:g} %"


def tone(verdict: str | None) -> str:
    """CSS class of a verdict."""
    good, bad = {"PASS", "FASTER", "PROMOTE", "BETTER", "passed"}, {"FAIL", "SLOWER", "REJECT", "WORSE", "failed"}
    if verdict in good:
        return "good"
    return "bad" if verdict in bad else "unsure" if verdict in {"AMBIGUOUS", "UNDECIDED", "open"} else ""
