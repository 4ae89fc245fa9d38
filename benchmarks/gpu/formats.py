"""How the results of the GPU suite are written, on a terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def found(result: dict[str, Any], part: str) -> dict[str, Any]:
    """What a part of the suite found; empty where it did not come to that."""
    return (result["parts"].get(part) or {}).get("found") or {}


def percent(share: float | None) -> str:
    """Of a share, 1 = all."""
    return "-" if share is None else f"{share:.0%}"


def ratio(about: dict[str, Any] | None, digits: int = 3) -> str:
    """{"ratio", "interval"} as `1.500 [1.400, 1.600]`; "-" where there is none."""
    if not about:
        return "-"
    low, high = about["interval"]
    return f"{about['ratio']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def gain(trained: dict[str, Any]) -> str | None:
    """The triton arm against the baseline's, as far as both arms have figures; None where they have none in common."""
    speedup, bits = trained.get("speedup"), trained.get("val_bpb_difference")
    words = [f"x{speedup:.3f} tokens/s"] if speedup is not None else []
    words += [f"val_bpb {bits:+.4f}"] if bits is not None else []
    return ", ".join(words) or None


def outcomes(tests: dict[str, Any]) -> str:
    """The counts of the GPU tests in a line."""
    counts = ", ".join(f"{tests[name]} {word}" for name, word in OUTCOMES.items())
    return counts + ("; time was over before the last" if tests["unfinished"] else "")


OUTCOMES = {"passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped"}


def columns(*names: str) -> list[str]:
    """Head of a Markdown table."""
    return [cells(names), "|---" * len(names) + "|"]


def cells(values: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"
