"""How the results of the plan for a GPU are written, on a terminal and on the page."""

from __future__ import annotations

from autoresearch_lab.campaign.gpu.result import RatioFound, Tested, Trained

OUTCOMES = {"passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped"}


def percent(share: float | None) -> str:
    """Of a share, 1 = all."""
    return "-" if share is None else f"{share:.0%}"


def ratio(about: RatioFound | None, digits: int = 3) -> str:
    """As `1.500 [1.400, 1.600]`; "-" where there is none."""
    if about is None:
        return "-"
    low, high = about.interval
    return f"{about.ratio:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def gain(trained: Trained) -> str | None:
    """The triton arm against the baseline's, as far as both arms have figures; None where they have none in common."""
    words = [f"x{trained.speedup:.3f} tokens/s"] if trained.speedup is not None else []
    words += [f"val_bpb {trained.val_bpb_difference:+.4f}"] if trained.val_bpb_difference is not None else []
    return ", ".join(words) or None


def outcomes(tests: Tested) -> str:
    """The counts of the GPU tests in a line."""
    counts = ", ".join(f"{getattr(tests, name)} {word}" for name, word in OUTCOMES.items())
    return counts + ("; time was over before the last" if tests.unfinished else "")
