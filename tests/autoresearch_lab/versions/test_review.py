"""A changed trainer looked over before a trial: what it touches, imports, and whether two steps of it train."""

import json
from types import SimpleNamespace

import pytest

from autoresearch_lab import machine
from autoresearch_lab.cli.app import main
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.versions import review, training
from autoresearch_lab.versions.evaluation import NotEvaluated
from autoresearch_lab.versions.rule import TrialRule
from autoresearch_lab.versions.run import Versions
from autoresearch_lab.versions.sides import open_side

from .conftest import write_dataset


def look(here: SimpleNamespace, b: str = ".", a: str = "HEAD") -> review.VersionReview:
    sides = open_side("a", a, "stdlib", here.root), open_side("b", b, "stdlib", here.root)
    return review.review(Versions(here.lab, *sides, "cpu-nano", TrialRule()))


def write(here: SimpleNamespace, path: str, text: str) -> None:
    (here.path / path).parent.mkdir(parents=True, exist_ok=True)
    (here.path / path).write_text(text)


def kinds(found: review.VersionReview) -> list[str]:
    return [finding.kind for finding in found.findings]


def test_a_version_that_trains_passes_with_its_memory(here: SimpleNamespace):
    here.commit()
    write(here, "autoresearch_trainer/optim.py", "import json, numpy\nfrom . import model\n")
    found = look(here)
    assert found.passed and found.findings == [] and found.changed == ["autoresearch_trainer/optim.py"]
    assert found.memory_mb == 512 and found.planned == "about 0.5 GiB (estimated)"
    assert [steps for _, steps in here.stub.asked] == [2]
    assert json.dumps(found.plain()) and look(here).memory_mb == 512 and len(here.stub.asked) == 1
    assert not list(here.root.runs.glob("review-*")) and here.lab.ledger.count() == 0
    assert look(here, "HEAD").changed == []


@pytest.mark.parametrize(
    ("path", "text", "kind", "note"),
    [
        ("autoresearch_trainer/evaluate.py", "# fewer", "evaluation", "it changes the evaluation: "),
        ("autoresearch_lab/versions/rule.py", "alpha = 1", "lab", "who measures: autoresearch_lab/versions/rule.py"),
        ("autoresearch_trainer/model.py", "x = (", "import", "model.py:1 is no Python: '(' was never closed"),
        ("autoresearch_trainer/model.py", "import no_such_thing", "import", "which is not installed here"),
        ("autoresearch_trainer/model.py", "import pytest", "dependency", "imports pytest, without which side a does"),
    ],
)  # fmt: skip
def test_what_its_files_say_stops_it_without_a_training(here: SimpleNamespace, path: str, text: str, kind: str, note):
    here.commit()
    write(here, path, text)
    found = look(here)
    assert kinds(found) == [kind] and note in found.findings[0].note and not found.passed
    assert found.memory_mb is None and here.stub.asked == []


def test_other_files_are_named_and_stop_nothing(here: SimpleNamespace):
    here.commit()
    write(here, "autoresearch_trainer/loop.py", "import os")
    write(here, "autoresearch_data/packing.py", (here.path / "autoresearch_data/packing.py").read_text() + "# faster\n")
    found = look(here)
    assert kinds(found) == ["evaluation", "beyond"] and found.findings[1].note.endswith(
        "edited: autoresearch_trainer/loop.py"
    )
    here.commit()
    assert look(here).passed


def test_another_validation_split_stops_it(here: SimpleNamespace):
    here.commit()
    write_dataset(here.path / "data" / "easy", val="d")
    assert kinds(look(here, "dataset=easy")) == ["evaluation"]


@pytest.mark.parametrize(("how", "kind"), [("crash", "crash"), ("memory", "out_of_memory"), ("diverged", "diverged")])
def test_how_two_steps_fail_is_told_apart(here: SimpleNamespace, how: str, kind: str):
    here.commit()
    found = look(here, f"fails={how}")
    assert kinds(found) == [kind] and not found.passed and found.memory_mb is None


def test_a_cheat_that_shows_only_in_training_is_one_of_the_evaluation(here: SimpleNamespace, monkeypatch):
    def evaluate(*_):
        raise NotEvaluated("its model looks at tokens that it is to predict", cheats=True)

    here.commit()
    monkeypatch.setattr(training, "evaluate", evaluate)
    found = look(here)
    assert kinds(found) == ["evaluation"] and "looks at tokens" in found.findings[0].note


def test_large_steps_are_reviewed_in_one_pass(here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    here.commit()
    words: list[str] = []
    execute = here.stub.execute
    monkeypatch.setattr(training, "execute", lambda command, *rest: words.extend(command) or execute(command, *rest))
    assert look(here, "tokens=65536").passed and "total_batch_tokens=2048" in words


def test_bad_input_and_a_set_up_that_fails_are_no_findings(here: SimpleNamespace):
    here.commit()
    with pytest.raises(LabError, match="cannot set 'nonsense'"):
        look(here, "refuses=1")
    here.stub.reference_trains = False
    with pytest.raises(LabFailure, match="the set-up failed"):
        look(here, "fails=crash")


def test_the_verb(here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(machine, "context", lambda engine, root: here.context)
    here.commit()
    common = ["--engine", "cpu", "--root", str(here.path), "review", "--preset", "cpu-nano"]
    assert main(common) == 0
    out = capsys.readouterr().out
    assert "worth a trial: nothing against it" in out and "memory: 512 MiB at most in two steps" in out
    write(here, "autoresearch_trainer/rungs.py", "")
    write(here, "README.md", "new")
    assert main([*common, "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert not data["passed"] and [(one["kind"], one["stops"]) for one in data["findings"]] == [
        ("evaluation", True), ("beyond", False)
    ]  # fmt: skip
    assert main([*common, "--b", "nowhere"]) == 2
