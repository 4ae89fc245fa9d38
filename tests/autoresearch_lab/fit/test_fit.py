"""A whole fit with trainings that answer at once: it finds what is planted, takes no noise for it, and goes on."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from autoresearch_lab import machine
from autoresearch_lab.cli.app import main
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import default_preset, fitted_preset
from autoresearch_lab.fit import run
from autoresearch_lab.fit.table import render
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.report.brief import brief
from autoresearch_lab.results.record import FitRecord

BEST = "cpu-nano-d3-w192"


def plant(here: SimpleNamespace, best: str = BEST, gain: float = 0.12) -> None:
    """`best` is better at the horizon, its parts are half as much, and what is larger is slow."""
    here.world.levels = {best: 1 - gain, "cpu-nano-d3": 1 - gain / 2, "cpu-nano-w192": 1 - gain / 2}
    here.world.speeds = {best: 26_000.0, "cpu-nano-w256": 12_000.0, "cpu-nano-d4": 15_000.0}


def test_the_planted_shape_is_found_and_becomes_the_default(here: SimpleNamespace):
    plant(here)
    record = here.fit()
    found = record.results
    assert record.verdict == "BETTER" and found.recommended == found.candidate == BEST
    assert found.delta_upper < 0 and found.gain < 0 and found.gain_lower < found.gain < found.gain_upper
    assert found.shapes[0].preset == BEST and found.shapes[0].lower < found.shapes[0].val_bpb < found.shapes[0].upper
    assert [stage.shapes for stage in found.stages] == [12, 6, 3] and len(found.pairs) >= 4
    assert {run.automatic for run in found.runs if run.stage == 1} == {False}
    assert found.seconds < 20 * 60 and found.predicted_seconds == pytest.approx(found.seconds, rel=0.15)
    seeds = {pair.seed for pair in found.pairs}
    assert 42 not in seeds and len(seeds) == len(found.pairs), "pairs are of seeds that chose nothing"
    assert "12 shapes for" in here.told[1] and "20 minutes are asked for" in here.told[1]
    assert fitted_preset(here.lab, "cpu-nano")[0] == default_preset(here.lab) == BEST
    assert not list(here.root.runs.glob("fit-*")) and brief(record) == found.reason


@pytest.mark.parametrize("draw", range(4))
def test_noise_is_no_better_shape(here: SimpleNamespace, draw: int):
    """All shapes are one: in 4 draws none is BETTER, where 1 in 100 is what the pairs allow."""
    here.world.draw = draw
    record = here.fit()
    assert record.verdict != "BETTER" and record.results.recommended == "cpu-nano"
    assert record.results.delta_lower < record.results.delta_upper and default_preset(here.lab) == "cpu-nano"


def test_a_default_that_is_the_best_is_said_to_be(here: SimpleNamespace):
    here.world.levels = {"cpu-nano": 0.9}
    record = here.fit()
    assert record.verdict == "WORSE" and record.results.delta_lower > 0
    assert record.results.reason.startswith("cpu-nano is the best;") and default_preset(here.lab) == "cpu-nano"


def test_a_larger_shape_that_starts_slowly_is_carried_by_its_curve(here: SimpleNamespace):
    """After some seconds the default leads, at 300 s a larger shape does; the curve knows."""
    best = "cpu-nano-w256"
    here.world.levels = {best: 0.86}
    here.world.speeds = {best: 15_000.0, "cpu-nano": 30_000.0, "cpu-nano-d1": 40_000.0}
    found = here.fit().results
    first = {run.preset: run.val_bpb for run in found.runs if run.stage == 1}
    assert first[best] > first["cpu-nano"] + 0.01 and found.recommended == best


def test_what_the_two_best_shapes_change_is_tried_together(here: SimpleNamespace):
    best = "cpu-nano-w192-t1024"
    here.world.levels = {best: 0.80, "cpu-nano-w192": 0.9, "cpu-nano-t1024": 0.9}
    found = here.fit().results
    assert found.recommended == best and best not in {run.preset for run in found.runs if run.stage == 1}


def test_a_killed_fit_goes_on_and_ends_as_if_nothing_had_been(here: SimpleNamespace):
    plant(here)
    for kill in (5, 20):
        here.world.dies_after = kill
        with pytest.raises(KeyboardInterrupt):
            here.fit()
        assert here.lab.ledger.count() == 0 and not list(here.root.runs.glob("fit-*"))
    here.world.dies_after = None
    killed = here.fit()
    trainings = len(here.world.asked)
    assert killed.results.reused == 20 and len(set(here.world.asked)) == trainings, "nothing was trained twice"
    assert here.fit().id == killed.id and here.told[-1].startswith("this fit is done")
    for path in (here.root.results / "cache" / "ab").iterdir():
        path.unlink()
    here.root.ledger.unlink()
    here.world.compiled.clear()
    whole = here.fit()
    assert whole.results.pairs == killed.results.pairs and whole.results.shapes == killed.results.shapes
    assert whole.verdict == killed.verdict and whole.results.seconds == killed.results.seconds


def test_a_shape_that_does_not_train_is_left_out(here: SimpleNamespace):
    plant(here)
    here.world.fails = {BEST: (1, "out of memory with a batch of 8"), "cpu-nano-d3-w256": (1, "kernel x declined")}
    found = here.fit().results
    assert found.dropped[BEST] == "out of memory with a batch of 8" and found.recommended != BEST
    assert BEST not in {shape.preset for shape in found.shapes}


def test_a_default_that_does_not_train_is_nobodys_verdict(here: SimpleNamespace):
    here.world.fails = {"cpu-nano": (1, "loss is nan")}
    with pytest.raises(LabFailure, match="preset cpu-nano itself does not train: loss is nan"):
        here.fit()
    here.world.fails = {"cpu-nano": (2, "no dataset in data/stdlib")}
    with pytest.raises(LabError, match="no dataset"):
        here.fit()
    assert here.lab.ledger.count() == 0


def test_a_busy_machine_decides_nothing_and_is_asked_again(here: SimpleNamespace):
    plant(here)
    here.world.load = 0.5
    record = here.fit()
    assert record.verdict == "UNDECIDED" and record.results.disturbed and "quieter machine" in record.results.reason
    assert default_preset(here.lab) == "cpu-nano"
    here.world.load = 0.02
    assert here.fit().results.reused == 0 and default_preset(here.lab) == BEST


def test_what_was_fitted_counts_until_hardware_or_trainer_change(here: SimpleNamespace, context: Context):
    plant(here)
    here.fit()
    changed = [("device", {**context.device, "key": "other"}), ("software", {**context.software, "key": "other"})]
    for name, value in changed:
        other = Context(**{**vars(context), name: value})
        assert default_preset(Lab.of(other, here.root)) == "cpu-nano", name
    assert fitted_preset(here.lab, "cpu-tiny") is None, "it is a shape of another preset"
    here.world.levels = {"cpu-nano": 0.5}
    here.fit(seed=1, minutes=10.0)
    assert default_preset(here.lab) == "cpu-nano", "the newest fit counts"


def test_a_small_budget_is_kept_as_well_as_it_can_be(here: SimpleNamespace):
    found = here.fit(minutes=8.0).results
    assert found.seconds < 8 * 60 * 1.1 and found.stages[0].shapes == 4


def test_a_machine_that_compiles_nothing(here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    plant(here)
    execute = here.world.execute

    def eager(command, folder, out, seconds):
        ended = execute(command, folder, out, seconds)
        if (out / "run.json").is_file():
            record = json.loads((out / "run.json").read_text())
            record["config"]["compile"], record["compile_cache"] = False, None
            (out / "run.json").write_text(json.dumps(record))
        return ended

    monkeypatch.setattr("autoresearch_lab.fit.training.execute", eager)
    record = here.fit()
    assert record.verdict == "BETTER" and {mode for *_, mode in here.world.asked} == {"auto"}


def test_the_report_has_the_zone_the_rungs_and_other_machines(here: SimpleNamespace, tmp_path: Path):
    plant(here)
    record = here.fit()
    assert isinstance(next(here.lab.ledger.each(kind="fit")), FitRecord)
    with open(tmp_path / "out", "w") as file:
        render(record, Console(file=file, width=110))
    text = (tmp_path / "out").read_text()
    for wanted in (
        "BETTER",
        "recommended",
        "default",
        "lower",
        "H100, upstream",
        "M5, m5-small",
        "evaluation cheap: 1,000",
    ):
        assert wanted in text
    full = next(rung for rung in record.results.rungs if rung.rung == "cheap")
    assert full.worst == pytest.approx(0.02 + 1e-4 * len(BEST)) and full.difference is not None
    roles = record.results
    sizes = {shape.preset: shape.parameters for shape in roles.shapes}
    assert sizes[roles.lower] <= sizes[roles.recommended] <= sizes[roles.upper]
    assert roles.longer is None or sizes[roles.longer] > sizes[roles.recommended]


def test_the_verb(here: SimpleNamespace, context: Context, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(machine, "context", lambda engine, root: context)
    common = ["--engine", "cpu", "--root", str(here.root.path), "fit", "--preset", "cpu-nano"]
    assert main(common) == 2 and "no dataset in" in capsys.readouterr().err
    monkeypatch.setattr(run.Manifest, "read", lambda folder: SimpleNamespace(name="stdlib", fingerprint="f"))
    plant(here)
    assert main([*common, "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["verdict"] == "BETTER" and data["recommended"] == BEST and data["minutes"] == 20.0
    assert "20 minutes are asked for" in captured.err and "pair 1: cpu-nano has val_bpb" in captured.err
    here.world.levels = {}
    assert main([*common, "--seed", "7"]) == 1
    assert "nothing is surely better than cpu-nano" in capsys.readouterr().out
    assert main([*common, "--minutes", "5", "--full"]) == 2
    assert main([*common, "--preset", "nothing"]) == 2
