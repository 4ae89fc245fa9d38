"""The one command for a Mac: refused without Metal, and with it every step is run, whatever became of the others."""

import sys
from pathlib import Path

import pytest

from autoresearch_lab import mac
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli import mac as verb
from autoresearch_lab.cli.app import cli, main
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root

KERNELS = mac.metal_kernels(load_catalog(Root()))


def steps(root: Path) -> list[mac.Step]:
    return mac.plan(KERNELS, Root(root), "m5-tiny", "stdlib", 5.0)


def test_without_metal_it_says_so_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mac, "has_apple_gpu", lambda: False)
    assert main(["--root", str(tmp_path), "--engine", "mlx", "mac"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.strip().splitlines()) == 1 and "no Metal" in told.err
    assert not list(tmp_path.iterdir())


def test_the_plan_takes_every_metal_kernel_through_verify_and_bench(tmp_path):
    names = [step.name for step in steps(tmp_path)]
    assert len(KERNELS) >= 6
    for kernel in KERNELS:
        assert names.index(f"verify {kernel.target}") < names.index(f"bench {kernel.target}")
    assert names[:4] == ["doctor", "tests", "data", "profile"] and names[-2:] == ["orchestrate", "report"]


def test_every_command_of_the_lab_takes_its_options(tmp_path):
    for step in steps(tmp_path):
        program = step.command[1]
        if program.endswith("kernel-lab.py"):
            assert step.command[2:6] == ("--root", str(tmp_path), "--engine", "mlx")
            name, *rest = step.command[6:]
            cli.get_command(None, name).make_context(name, rest)
        else:
            assert program == "-m" or Path(program) == CHECKOUT / "prepare.py"
        assert step.command[0] == sys.executable


def test_steps_that_fail_or_say_no_do_not_stop_the_rest(tmp_path):
    plan, lines = steps(tmp_path), []
    done = mac.run(plan, lines.append, lambda command: 1)
    assert [step.name for step in done] == [step.name for step in plan] and len(lines) == len(plan)
    states = {step.name: step.state for step in done}
    assert states["tests"] == states["verify rms_norm"] == "failed" and states["bench rms_norm"] == "negative"
    assert {step.state for step in mac.run(plan, lines.append, lambda command: 0)} == {"ok"}


@pytest.mark.parametrize("code", [0, 2])
def test_the_verb_records_what_was_run(tmp_path, capsys, monkeypatch, code):
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    here = Context(ENGINES["mlx"], {"kind": "mlx-gpu", "key": "mlx-gpu-1"}, {"key": "s"})
    monkeypatch.setattr(mac, "has_apple_gpu", lambda: True)
    monkeypatch.setattr(verb, "choose", lambda name: ENGINES[name])
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: here)
    monkeypatch.setattr(verb, "run", lambda plan, say: mac.run(plan, say, lambda command: code))
    assert main(["--root", str(tmp_path), "mac", "--preset", "m5-tiny"]) == (1 if code else 0)
    (note,) = Ledger(Root(tmp_path).ledger).find(kind="note")
    assert note.settings["event"] == "mac" and note.device["key"] == "mlx-gpu-1"
    assert {step["exit_code"] for step in note.results["steps"]} == {code}
