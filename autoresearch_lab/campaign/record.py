"""A campaign as records: a note for every step when it ends, and one for the whole."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autoresearch_lab.campaign.driver import walk
from autoresearch_lab.campaign.steps import CampaignStep, StepEnd, TimeBox
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.results.note import CampaignResults, CampaignSettings, RecordedStep
from autoresearch_lab.results.record import CampaignRecord, CampaignStepRecord


@dataclass
class Campaign:
    """One campaign of a lab: what is walked, under which name, within which time. say: gets lines for the user.

    `ends` grows as the steps end. after_step: what is to be done then, besides the note.
    """

    lab: Lab
    settings: CampaignSettings
    say: Callable[[str], None]
    clock: TimeBox
    ends: dict[str, StepEnd] = field(default_factory=dict)
    after_step: Callable[[], None] = lambda: None
    record: str | None = None

    @classmethod
    def of(cls, lab: Lab, plan: str, preset: str, dataset: str, say: Callable[[str], None],
           seconds: float | None = None, clock: TimeBox | None = None) -> Campaign:  # fmt: skip
        """clock: where the time began before now."""
        settings = CampaignSettings(
            event="campaign", campaign=secrets.token_hex(6), plan=plan, seconds=seconds, preset=preset,
            dataset=dataset,
        )  # fmt: skip
        return cls(lab, settings, say, clock or TimeBox.of(float("inf") if seconds is None else seconds))

    def run(self, steps: Sequence[CampaignStep]) -> CampaignResults:
        """Walk the steps, each noted in the ledger when it ends, and then the whole."""
        began = time.monotonic()

        def begin(number: int, step: CampaignStep) -> None:
            self.say(f"[{number}/{len(steps)}] {step.name}{f': {step.what}' if step.what else ''}")

        def ended(step: CampaignStep, end: StepEnd) -> None:
            self.say(f"{step.name}: {end.state}, {end.seconds:.1f} s{f'; {end.reason}' if end.reason else ''}")
            self._note(CampaignStepRecord, end.recorded())
            self.after_step()

        walk(steps, self.clock, self.ends, begin, ended)
        seconds = round(time.monotonic() - began, 1)
        whole = CampaignResults(seconds=seconds, steps=[end.recorded() for end in self.ends.values()])
        self.record = self._note(CampaignRecord, whole)
        return whole

    def _note(
        self, of: type[CampaignRecord | CampaignStepRecord], results: CampaignResults | RecordedStep
    ) -> str | None:
        """The record's id; a ledger that takes no notes any more is told, and keeps no step from being done."""
        event = "campaign" if of is CampaignRecord else "campaign-step"
        settings = self.settings.model_copy(update={"event": event})
        try:
            return self.lab.ledger.append(of, **self.lab.context.fields(), settings=settings, results=results).id
        except LabError as error:
            self.say(f"not noted: {error}")
            return None
