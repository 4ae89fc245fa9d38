"""GPU traces in the lab: refused without Metal, recorded with the environment that Metal needs, reviewed by people."""

from pathlib import Path

import pytest

from autoresearch_lab import engine, jobs
from autoresearch_lab.cli.app import main
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.promote.selection import Selection
from autoresearch_lab.trace import metal, review
from autoresearch_trainer.jobs.machine import DESCRIBE, DescribeArgs

GPU = Context(ENGINES["mlx"], {"kind": "mlx-gpu", "key": "mlx-gpu-1"}, {"key": "s"})
NOBODY = {"device": {}, "software": {}}
REVIEW = ["--judgement", "problem", "--text", "gaps between launches", "--reviewer", "A. Reader"]


def take(root, ledger):
    return metal.capture(
        Lab.of(GPU, root, ledger), preset="m5-tiny", dataset_folder=root.path, selection=Selection({}), steps=2,
        output=metal.new_trace(root, None),
    )  # fmt: skip


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """A trace that a job wrote: (root, ledger, its record, the environment that the job was started with)."""
    started = {}

    def run_job(package, job, args, *, variables, **rest):
        started.update(variables)
        folder = Path(args["output"])
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "frame").write_bytes(b"launches")
        return {
            "dataset": {"name": "d", "fingerprint": "f"},
            "selection": {},
            "steps": args["steps"],
            "tokens_per_step": 64,
        }

    monkeypatch.setattr(engine, "run_job", run_job)
    root = Root(tmp_path)
    ledger = Ledger(root.ledger)
    return root, ledger, take(root, ledger), started


def test_without_metal_capture_says_so_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metal, "has_apple_gpu", lambda: False)
    assert main(["--root", str(tmp_path), "--engine", "mlx", "capture"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.strip().splitlines()) == 1 and "no Metal" in told.err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--time-budget", "5"], "--time-budget is not for --engine mlx"),
        (["--tool", "nsys"], "--tool is not for --engine mlx"),
        (["--compiled"], "--compiled is not for --engine mlx"),
        (["--steps", "21"], "at most 20 with --engine mlx"),
    ],
)
def test_options_of_the_other_engines_do_not_apply(tmp_path, capsys, monkeypatch, option, words):
    monkeypatch.setattr(metal, "has_apple_gpu", lambda: True)
    monkeypatch.setattr("autoresearch_lab.lab.choose", lambda name: ENGINES["mlx"])
    assert main(["--root", str(tmp_path), "--engine", "mlx", "capture", *option]) == 2
    told = capsys.readouterr().err
    assert words in told and len(told.strip().splitlines()) == 1 and not (tmp_path / "results").exists()


def test_a_capture_is_recorded_with_its_hash_and_started_with_what_metal_needs(taken):
    root, _, record, started = taken
    assert started["MTL_CAPTURE_ENABLED"] == "1"
    assert record.kind == "capture" and record.settings.event == "gputrace" and record.settings.steps == 2
    path = root.path / record.results.trace
    assert record.results.trace_sha256 == metal.folder_sha256(path)
    assert (record.results.files, record.results.bytes) == (1, 8)


def test_where_the_record_cannot_be_written_the_trace_does_not_stay(taken):
    root, ledger, record, _ = taken
    ledger.path.write_text("damaged\n" + ledger.path.read_text())
    with pytest.raises(LabError, match="line 1 of"):
        take(root, ledger)
    assert [path.name for path in (root.results / "traces").iterdir()] == [Path(record.results.trace).name]


def test_a_review_names_the_trace_and_is_kept(taken, capsys):
    root, ledger, record, _ = taken
    assert main(["--root", str(root.path), "review-trace", "--trace", record.id[:10], *REVIEW]) == 0
    (review,) = ledger.find(kind="review")
    assert review.settings.capture == record.id and review.device["key"] == "mlx-gpu-1"
    assert review.results.judgement == "problem" and review.results.reviewer == "A. Reader"


@pytest.mark.parametrize("fault", ["unknown", "changed", "gone", "silent"])
def test_a_review_of_something_else_is_refused(taken, fault):
    root, ledger, record, _ = taken
    frame = root.path / record.results.trace / "inner" / "frame"
    trace, text = ("0" * 64 if fault == "unknown" else record.id), "" if fault == "silent" else "fine"
    if fault == "changed":
        frame.write_bytes(b"others")
    elif fault == "gone":
        frame.unlink()
        frame.parent.rmdir()
        frame.parent.parent.rmdir()
    with pytest.raises(LabError, match="review-trace"):
        review.review(Lab(root), trace, "unclear", text, "A. Reader")
    assert not ledger.find(kind="review")


def test_names_that_xcode_or_metal_refuse_are_refused_beforehand(tmp_path):
    (tmp_path / "there.gputrace").mkdir()
    for name in ("trace.json", "there.gputrace"):
        with pytest.raises(LabError, match="capture"):
            metal.new_trace(Root(tmp_path), tmp_path / name)


def test_jobs_hand_variables_to_the_engine(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(engine, "run_job", lambda *a, variables, **k: seen.update(variables) or NOBODY)
    jobs.call(ENGINES["mlx"], DESCRIBE, DescribeArgs(), run_dir=tmp_path, variables={"A": "1"})
    assert seen == {"A": "1"}
