"""What a campaign is made of: steps, the time that each of them has, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, Field, SerializeAsAny

from autoresearch_lab.errors import LabFailure
from autoresearch_lab.results.note import RecordedStep


class StepFailed(LabFailure):
    """A step could not do its work; the message says why. code: exit code of the command that it was, None = it ran out
    of time. detail: all that it printed."""

    def __init__(self, message: str, code: int | None = 1, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


class SaidNo(LabFailure):
    """A step came to its end with a negative answer, such as a kernel that is not faster."""


class NotBegun(LabFailure):
    """A step is known to lead nowhere here, and was not begun."""


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


class StepEnd(RecordedStep):
    """How a step ended. found: what it found, for those that return something. detail: of a failure the whole
    traceback, which no record carries."""

    found: SerializeAsAny[BaseModel] | None = None
    detail: str = Field(default="", exclude=True)

    def recorded(self) -> RecordedStep:
        """As a note of the ledger carries it."""
        return RecordedStep(**self.model_dump(exclude={"found"}))
