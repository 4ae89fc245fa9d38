"""Walks the steps of a campaign: each gets its share of the time, and one that fails does not take the others along."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autoresearch_lab.campaign.steps import CampaignStep, NotBegun, SaidNo, StepEnd, StepFailed, TimeBox
from autoresearch_lab.errors import LabError, LabFailure

LEAST_SECONDS = 1.0
MOST_WORDS = 400


class OutOfTime(BaseException):
    """A step's time is over. No Exception: what a step catches while it goes on to its next piece must not end here."""


def walk(
    steps: Sequence[CampaignStep],
    clock: TimeBox,
    ends: dict[str, StepEnd],
    on_begin: Callable[[int, CampaignStep], None],
    on_end: Callable[[CampaignStep, StepEnd], None],
) -> None:
    """Every step in turn. clock: the time of all of them together. ends: filled as they end, by name; a step may read
    what earlier ones found there. on_begin also gets the step's number, from 1.

    Where less is left than all reserves together, every step is shorter, and none is left out.
    """
    scale = min(1.0, clock.left / max(1.0, sum(step.reserve for step in steps)))
    for number, step in enumerate(steps):
        on_begin(number + 1, step)
        limit = time_for(step, steps[number + 1 :], clock.left, scale)
        missing = [name for name in step.needs if name in ends and not ends[name].came_through]
        if missing:
            ends[step.name] = _skipped(step, f"without {missing[0]} it cannot be done")
        else:
            ends[step.name] = attempt(step, limit)
        on_end(step, ends[step.name])


def time_for(step: CampaignStep, later: Sequence[CampaignStep], left: float, scale: float) -> float:
    """Seconds that a step may take of those that are left, so that each later one has `scale` times its reserve."""
    return min(step.most, left - scale * sum(one.reserve for one in later))


def attempt(step: CampaignStep, limit: float) -> StepEnd:
    """Do it within `limit` seconds. Whatever goes wrong in it is told, and not raised."""
    if limit < LEAST_SECONDS:
        return _skipped(step, "no time left")
    began = time.monotonic()
    end = StepEnd(step=step.name)
    try:
        with _alarm(limit if step.interrupt else float("inf")):
            end.found = step.action(TimeBox.of(limit))
    except SaidNo as answer:
        end = _ended(end, "negative", 1, str(answer))
    except NotBegun as reason:
        end = _skipped(step, str(reason))
    except OutOfTime:
        end = _ended(end, "failed", None, f"out of time after {time.monotonic() - began:.0f} s", traceback.format_exc())
    except Exception as error:  # whatever goes wrong in one step, the minutes of the others are not given away
        code = error.code if isinstance(error, StepFailed) else 2 if isinstance(error, LabError) else 1
        # A job and a command have a traceback, or an output, of their own.
        detail = "\n".join(filter(None, (traceback.format_exc(), getattr(error, "detail", ""))))
        end = _ended(end, "failed", code, _words(error), detail)
    return end.model_copy(update={"seconds": round(time.monotonic() - began, 1)})


def _words(error: Exception) -> str:
    """Its message; of one that nobody meant also its kind and place."""
    if isinstance(error, LabFailure | LabError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"[:MOST_WORDS]


def _ended(end: StepEnd, state: str, code: int | None, reason: str, detail: str = "") -> StepEnd:
    told = {"state": state, "exit_code": code, "reason": " ".join(reason.split()), "detail": detail}
    return end.model_copy(update=told)


def _skipped(step: CampaignStep, reason: str) -> StepEnd:
    return StepEnd(step=step.name, state="skipped", exit_code=None, reason=reason)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after so many seconds; it unwinds as one that is terminated, children included."""
    if seconds == float("inf") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
