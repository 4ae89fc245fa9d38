"""What a campaign is made of: steps, the time that each of them has, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, SerializeAsAny

from autoresearch_lab.errors import LabFailure
from autoresearch_lab.results.note import RecordedStep

StepState = Literal["done", "negative", "failed", "skipped"]


class StepFailed(LabFailure):
    """A step could not do its work; the message says why. code: exit code of the command that it was, None = it ran out
    of time."""

    def __init__(self, message: str, code: int | None = 1) -> None:
        super().__init__(message)
        self.code = code


class SaidNo(LabFailure):
    """A step came to its end with a negative answer, such as a kernel that is not faster."""


@dataclass(frozen=True)
class TimeBox:
    """A time that something may take. deadline: its end on the monotonic clock in seconds."""

    deadline: float

    @classmethod
    def of(cls, seconds: float) -> TimeBox:
        """From now on."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until its end; infinite where there is none."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class CampaignStep:
    """One step of a campaign.

    action: gets the time that it has, and returns what it found; it raises StepFailed, SaidNo, LabError or LabFailure.
    what: for people, beside the name. most: the most seconds that it may take; reserve: what earlier steps leave to it,
    also in s. needs: without these, where they were tried in this campaign, it is not begun. interrupt: the driver
    itself ends it when its time is over; others keep to it on their own.
    """

    name: str
    action: Callable[[TimeBox], BaseModel | None]
    what: str = ""
    most: float = float("inf")
    reserve: float = 0.0
    needs: tuple[str, ...] = ()
    interrupt: bool = False


class StepEnd(BaseModel):
    """How a step ended.

    state: done; negative (its end was reached, its answer is no); failed; or skipped (not begun). exit_code: that of
    the command, or what a verb would have ended with; None = none, or it ran out of time. seconds: how long it took.
    reason: in a line, why it did not end as `done`. found: what it found, for those that return something.
    """

    step: str
    state: StepState = "done"
    exit_code: int | None = 0
    seconds: float = 0.0
    reason: str = ""
    found: SerializeAsAny[BaseModel] | None = None

    @property
    def came_through(self) -> bool:
        """Whether what needs this step can be done."""
        return self.state in ("done", "negative")

    def recorded(self) -> RecordedStep:
        """As a note of the ledger carries it."""
        return RecordedStep(**self.model_dump(exclude={"found"}))
