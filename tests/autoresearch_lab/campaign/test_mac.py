"""The one command for a Mac: refused without Metal, and with it every step is run, whatever became of the others."""

import sys
from pathlib import Path

import pytest

from autoresearch_lab.campaign import mac
from autoresearch_lab.campaign.command import Completed
from autoresearch_lab.campaign.record import Campaign
from autoresearch_lab.campaign.steps import CampaignStep
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli import campaign as verb
from autoresearch_lab.cli.app import cli, main
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.results.record import CampaignRecord

CATALOG = load_catalog(Root())
KERNELS = mac.metal_kernels(CATALOG)


def steps(root: Path, dataset: str = "stdlib") -> list[CampaignStep]:
    return mac.mac_steps(Lab(Root(root), ENGINES["mlx"]), CATALOG, "m5-tiny", dataset, 5.0)


def ending_with(monkeypatch, code: int) -> None:
    monkeypatch.setattr(mac, "run_command", lambda *_, **__: Completed(code, "", "", 0.0))


def test_without_metal_it_says_so_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mac, "has_apple_gpu", lambda: False)
    for words in (["mac"], ["run", "--plan", "mac"]):
        assert main(["--root", str(tmp_path), "--engine", "mlx", *words]) == 2
        told = capsys.readouterr()
        assert told.out == "" and len(told.err.strip().splitlines()) == 1 and "no Metal" in told.err
    assert not list(tmp_path.iterdir())


def test_the_plan_takes_every_metal_kernel_through_verify_and_bench(tmp_path):
    names = [step.name for step in steps(tmp_path)]
    assert len(KERNELS) >= 6
    for kernel in KERNELS:
        assert names.index(f"verify {kernel.target}") < names.index(f"bench {kernel.target}")
    assert names[:4] == ["doctor", "tests", "data", "profile"] and names[-2:] == ["orchestrate", "report"]


def test_a_dataset_of_the_users_own_name_is_not_prepared(tmp_path, monkeypatch):
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "mine" / "dataset.json").write_text("{}")
    assert [step.name for step in steps(tmp_path, "mine")][:3] == ["doctor", "tests", "profile"]


def test_every_command_of_the_lab_takes_its_options(tmp_path):
    for step in steps(tmp_path):
        command = step.action.command
        program = command[1]
        if program.endswith("kernel-lab.py"):
            assert command[2:6] == ("--root", str(tmp_path), "--engine", "mlx")
            name, *rest = command[6:]
            cli.get_command(None, name).make_context(name, rest)
        else:
            assert program == "-m" or Path(program) == CHECKOUT / "prepare.py"
        assert command[0] == sys.executable


def test_steps_that_fail_or_say_no_do_not_stop_the_rest(tmp_path, monkeypatch, context):
    plan, lines = steps(tmp_path), []

    def states(code):
        ending_with(monkeypatch, code)
        end = Campaign.of(Lab.of(context, Root(tmp_path)), "mac", "m5-tiny", "stdlib", lines.append).run(plan)
        return {step.step: step.state for step in end.steps}

    said_no = states(1)
    assert list(said_no) == [step.name for step in plan] and len(lines) == 2 * len(plan)
    assert said_no["tests"] == said_no["verify rms_norm"] == "failed" and said_no["bench rms_norm"] == "negative"
    assert set(states(0).values()) == {"done"}


@pytest.mark.parametrize("code", [0, 2])
@pytest.mark.parametrize("words", [["mac"], ["run"], ["run", "--plan", "mac"]])
def test_the_verb_records_what_was_run(tmp_path, capsys, monkeypatch, code, words):
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    here = Context(ENGINES["mlx"], {"kind": "mlx-gpu", "key": "mlx-gpu-1"}, {"key": "s"})
    for module in (mac, verb):
        monkeypatch.setattr(module, "has_apple_gpu", lambda: True)
    for name in ("autoresearch_lab.cli.campaign.choose", "autoresearch_lab.lab.choose"):
        monkeypatch.setattr(name, lambda name: ENGINES["mlx"])
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: here)
    ending_with(monkeypatch, code)
    assert main(["--root", str(tmp_path), *words, "--preset", "m5-tiny"]) == (1 if code else 0)
    (note,) = Lab(Root(tmp_path)).ledger.find(CampaignRecord)
    assert note.settings.event == "campaign" and note.device["key"] == "mlx-gpu-1"
    assert (note.settings.plan, note.settings.preset) == ("mac", "m5-tiny")
    end = note.results
    assert {step.exit_code for step in end.steps} == {code} and len(end.failed) == (len(end.steps) if code else 0)
    single = [one for one in Ledger(Root(tmp_path).ledger).find(kind="note") if one.settings.event == "campaign-step"]
    assert [one.results.step for one in single] == [step.step for step in end.steps]
    assert {one.settings.campaign for one in single} == {note.settings.campaign}
