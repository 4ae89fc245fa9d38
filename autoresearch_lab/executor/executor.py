"""What orchestrate asks of whoever carries out its independent steps, and the executor that does it right here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from autoresearch_lab.evidence import Subject

# The steps of different candidates that do not depend on each other. A/B and promotion do: each A/B is against the
# trainer as promoted so far.
INDEPENDENT = ("verify", "bench")


class Item(Protocol):
    """A candidate, as far as an executor has to know it."""

    @property
    def label(self) -> str:
        """What it is called; no other one is called the same."""

    @property
    def subject(self) -> Subject:
        """What its evidence has to be about."""


class Ended(NamedTuple):
    """A step that has ended. over: whether it is so for this run; one that is not was lost with its worker and may be
    started again. failure: why it could not be done, where that is so."""

    item: Item
    over: bool
    failure: str | None = None


class Executor(Protocol):
    """Carries out steps of candidates. A step that was started ends in a record of the ledger, or in none."""

    def open(self) -> None:
        """Get ready; called once, and only if there is something to do. Raises LabError where that cannot be."""

    def vacancy(self) -> str | None:
        """Where the next step would be carried out, in words that follow its name (" on node-a"; empty for here); None
        while every place is taken."""

    def start(self, item: Item, step: str) -> None:
        """Start a step; there must be a vacancy. Raises LabError or LabFailure where it cannot be done."""

    def wait(self) -> list[Ended]:
        """Wait until started steps end.

        Raises:
            LabError, LabFailure: nothing more can be done here.
        """

    def close(self) -> None:
        """Give back whatever is held, whether or not it was ever opened; what still runs is lost."""


class Local:
    """One step after the other, in this process."""

    def __init__(self, carry_out: Callable[[Item, str], None]) -> None:
        self._carry_out = carry_out
        self._ended: list[Ended] = []

    def open(self) -> None:
        pass

    def vacancy(self) -> str | None:
        return None if self._ended else ""

    def start(self, item: Item, step: str) -> None:
        self._carry_out(item, step)
        self._ended.append(Ended(item, True))

    def wait(self) -> list[Ended]:
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        pass
