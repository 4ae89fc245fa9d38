"""A campaign as records: a note for every step when it ends, and one for the whole."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ValidationError

from autoresearch_lab.campaign.driver import walk
from autoresearch_lab.campaign.steps import CampaignStep, StepEnd, TimeBox
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.records import Record

STEP_EVENT, CAMPAIGN_EVENT = "campaign-step", "campaign"


class CampaignSettings(BaseModel):
    """Settings of both kinds of note. campaign: a short id that the notes of one campaign share. seconds: what it was
    given, None = as long as it takes. preset and dataset: what it trained."""

    event: str
    campaign: str
    plan: str
    seconds: float | None = None
    preset: str
    dataset: str
    rehearsed: bool = False


class CampaignEnd(BaseModel):
    """Results of the note at the end. seconds: of the whole campaign; steps: how each ended, in their order."""

    seconds: float
    steps: list[StepEnd]

    @property
    def failed(self) -> list[StepEnd]:
        return [step for step in self.steps if step.state == "failed"]


@dataclass(frozen=True)
class RecordedCampaign:
    """The end of a campaign as it stands in a ledger. id, time: of its record."""

    id: str
    time: str
    settings: CampaignSettings
    end: CampaignEnd


def newest_campaign(records: Iterable[Record]) -> RecordedCampaign | None:
    """The first of these records that is the end of a campaign; give them newest first."""
    for record in records:
        if record.kind == "note" and (record.settings or {}).get("event") == CAMPAIGN_EVENT:
            try:
                settings = CampaignSettings.model_validate(record.settings)
                return RecordedCampaign(record.id, record.time, settings, CampaignEnd.model_validate(record.results))
            except ValidationError:
                continue  # of another version of the lab
    return None


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
            event=CAMPAIGN_EVENT, campaign=secrets.token_hex(6), plan=plan, seconds=seconds, preset=preset,
            dataset=dataset,
        )  # fmt: skip
        return cls(lab, settings, say, clock or TimeBox.of(float("inf") if seconds is None else seconds))

    def run(self, steps: Sequence[CampaignStep]) -> CampaignEnd:
        """Walk the steps, each noted in the ledger when it ends, and then the whole."""
        began = time.monotonic()

        def begin(number: int, step: CampaignStep) -> None:
            self.say(f"[{number}/{len(steps)}] {step.name}{f': {step.what}' if step.what else ''}")

        def ended(step: CampaignStep, end: StepEnd) -> None:
            self.say(f"{step.name}: {end.state}, {end.seconds:.1f} s{f'; {end.reason}' if end.reason else ''}")
            self._note(STEP_EVENT, end.bare())
            self.after_step()

        walk(steps, self.clock, self.ends, begin, ended)
        seconds = round(time.monotonic() - began, 1)
        whole = CampaignEnd(seconds=seconds, steps=[end.bare() for end in self.ends.values()])
        self.record = self._note(CAMPAIGN_EVENT, whole)
        return whole

    def _note(self, event: str, results: BaseModel) -> str | None:
        """The record's id; a ledger that takes no notes any more is told, and keeps no step from being done."""
        settings = self.settings.model_copy(update={"event": event})
        try:
            fields = self.lab.context.fields()
            return self.lab.ledger.append(
                "note", **fields, settings=settings.model_dump(), results=results.model_dump(mode="json")
            ).id
        except LabError as error:
            self.say(f"not noted: {error}")
            return None
