"""What a campaign leaves in the ledger, and how the report shows it."""

import re

import pytest

from autoresearch_lab.campaign.record import Campaign
from autoresearch_lab.campaign.steps import CampaignStep, StepEnd, StepFailed
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import Root
from autoresearch_lab.report.collect import collect
from autoresearch_lab.report.page import render
from autoresearch_lab.results.record import CampaignRecord


def broken(box):
    raise StepFailed("exit code 3: <b>no</b>", 3)


STEPS = [CampaignStep("a", lambda box: StepEnd(step="found")), CampaignStep("b", broken)]


@pytest.fixture
def lab(tmp_path, context):
    return Lab.of(context, Root(tmp_path))


def test_every_step_and_the_whole_are_notes_that_are_read_as_they_were_written(lab):
    campaign = Campaign.of(lab, "cpu", "cpu-nano", "stdlib", lambda line: None, 60.0)
    end = campaign.run(STEPS)
    notes = lab.ledger.records()
    assert [note.settings.event for note in notes] == ["campaign-step", "campaign-step", "campaign"]
    assert [note.results for note in notes[:2]] == end.steps
    assert campaign.ends["a"].found == StepEnd(step="found")  # kept for what comes after, not noted
    assert notes[2].results == end and [one.step for one in end.failed] == ["b"]
    assert lab.ledger.find(CampaignRecord) == [notes[2]] and campaign.record == notes[2].id
    assert (notes[2].settings.plan, notes[2].settings.seconds) == ("cpu", 60.0)


def test_the_report_shows_how_the_last_campaign_ended(lab):
    Campaign.of(lab, "gpu", "upstream", "stdlib", lambda line: None).run(STEPS)
    page = render(collect(lab, lab.context, []))
    section = re.search(r'<section id="campaign">(.*?)</section>', page, re.DOTALL)[1]
    assert "Plan gpu with preset upstream on" in section and ">done<" in section and ">failed<" in section
    assert "exit code 3: &lt;b&gt;no&lt;/b&gt;" in section and "<td>3</td>" in section


def test_a_ledger_that_takes_no_notes_keeps_no_step_from_being_done(lab, monkeypatch):
    def refuse(*_, **__):
        raise LabError("ledger: cannot append")

    lines = []
    monkeypatch.setattr(lab.ledger, "append", refuse)
    campaign = Campaign.of(lab, "cpu", "cpu-nano", "stdlib", lines.append)
    assert [step.state for step in campaign.run(STEPS).steps] == ["done", "failed"] and campaign.record is None
    assert lines.count("not noted: ledger: cannot append") == 3
