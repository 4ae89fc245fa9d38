"""The training step in the gate, with played trainings: planted losses, nulls, a busy machine, and sides that fail."""

import json
import shutil
import xml.etree.ElementTree as xml

import pytest

from autoresearch_lab.cli.app import main
from autoresearch_lab.gate.step import STEPS
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import CHECKOUT

from ..versions.conftest import git, here  # noqa: F401

ROW = "training step, cpu-nano"


@pytest.fixture
def versions(here, monkeypatch, capsys):  # noqa: F811
    """`versions.gate(plan of base, plan of head)`: (exit code, rows, stderr)."""
    home = here.path / "kernels" / "relu_squared"
    home.mkdir(parents=True)
    for name in ("oracle.py", "torch_eager.py"):
        shutil.copy(CHECKOUT / "kernels" / "relu_squared" / name, home)
    text = (CHECKOUT / "kernels" / "relu_squared" / "target.toml").read_text(encoding="utf-8")
    entry = 'name = "torch_eager"\nframework = "torch"\ndevices = ["cpu"]\nrole = "baseline"\nlanguage = "python"\n'
    contract = text[: text.index("[[kernels]]")]
    (home / "target.toml").write_text(f'{contract}[[kernels]]\n{entry}file = "torch_eager.py"\n', encoding="utf-8")
    monkeypatch.setattr(Lab, "context", here.context)
    here.stub.noise = 0.003
    here.home = home

    def gate(base, head, *words, edit="train.py"):
        here.commit(**base)
        file = here.path / edit
        file.write_text((file.read_text() if file.exists() else "") + "# edited\n")
        here.commit(**head)
        code = main(["--engine", "cpu", "--root", str(here.path), "gate", "--base", "HEAD~1", "--json", *words])
        told = capsys.readouterr()
        return code, json.loads(told.out)["rows"] if told.out else None, told.err

    here.gate = gate
    return here


def test_a_planted_loss_of_five_per_cent_ends_with_1_and_is_written_down(versions, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    files = [f"--markdown={out / 'summary.md'}", f"--junit={out / 'junit.xml'}"]
    code, (row,), _ = versions.gate({}, {"speed": 1 / 1.05}, *files)
    assert code == 1 and row["name"] == ROW and row["verdict"] == "SLOWER"
    assert row["ratio"] == pytest.approx(1 / 1.05, rel=0.01) and row["base_seconds"] == pytest.approx(0.1, rel=0.01)
    assert f"| {ROW} | SLOWER |" in (out / "summary.md").read_text(encoding="utf-8")
    assert xml.parse(out / "junit.xml").getroot().find("testcase/failure").attrib["type"] == "SLOWER"


def test_a_null_ends_with_0_after_rounds_of_three_trainings(versions):
    code, (row,), _ = versions.gate({}, {})
    assert code == 0 and row["verdict"] in ("SAME", "AMBIGUOUS") and row["interval"][0] < 1 < row["interval"][1]
    folders = [folder for folder, steps in versions.stub.asked if steps == STEPS]
    rounds = [sorted(folders[at : at + 3]) for at in range(0, len(folders), 3)]
    assert len(rounds) in (4, 8, 16) and all(folders.count(folder) % len(rounds) == 0 for folder in set(folders))
    assert len(folders) == len(versions.stub.asked) - 2 == 3 * len(rounds) and len(set(folders)) == 2
    assert all(one == rounds[0] for one in rounds)


def test_a_busy_machine_is_ambiguous_and_passes(versions):
    versions.stub.load = 0.9
    code, (row,), _ = versions.gate({}, {"speed": 1 / 1.05})
    assert code == 0 and row["verdict"] == "AMBIGUOUS"
    assert "other processes used 90% of the machine, too much for a difference of" in row["reason"]


def test_a_step_of_more_tokens_is_compared_token_by_token(versions):
    """Half as many steps for as many tokens."""
    code, (row,), _ = versions.gate({}, {"tokens": 4096, "speed": 0.5})
    assert code == 0 and row["ratio"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("base", "head", "code", "verdict", "reason"),
    [
        ({}, {"fails": "diverged"}, 1, "FAIL", "head does not train: loss is nan at step 3"),
        ({}, {"refuses": True}, 1, "FAIL", "head does not train: cannot set 'nonsense'"),
        ({"fails": "crash"}, {}, 0, "AMBIGUOUS", "base does not train: NameError: name 'x' is not defined"),
        ({"refuses": True}, {}, 0, "AMBIGUOUS", "base does not train: cannot set 'nonsense'"),
    ],
)
def test_a_head_that_does_not_train_fails_and_without_a_base_nothing_is_said(
    versions, base, head, code, verdict, reason
):
    assert [(one["verdict"], one["reason"]) for one in versions.gate(base, head)[1]] == [(verdict, reason)]


def test_where_the_set_up_fails_nobody_is_blamed(versions):
    versions.stub.reference_trains = False
    code, (row,), _ = versions.gate({}, {"fails": "crash"})
    assert code == 0 and row["verdict"] == "AMBIGUOUS" and "no space left on device" in row["reason"]


@pytest.mark.parametrize("edit", ["README.md", "autoresearch_lab/x.py"])
def test_what_no_step_runs_needs_no_training(versions, edit):
    (versions.path / "autoresearch_lab").mkdir()
    assert versions.gate({}, {}, edit=edit)[:2] == (0, []) and versions.stub.asked == []


def test_an_edited_baseline_is_another_step(versions, monkeypatch):
    monkeypatch.setattr("autoresearch_lab.gate.kernels.changed", lambda *_: ([], {}))
    _, (row,), _ = versions.gate({}, {"speed": 0.5}, edit="kernels/relu_squared/torch_eager.py")
    assert row["name"] == ROW and row["verdict"] == "SLOWER"


def test_the_working_tree_is_a_head_too(versions):
    versions.commit()
    (versions.path / "train.py").write_text("# edited\n")
    (versions.path / "plan.json").write_text(json.dumps({"bpb": 2.0, "speed": 0.5}))
    assert main(["--engine", "cpu", "--root", str(versions.path), "gate", "--base", "HEAD"]) == 1
    assert git(versions.path, "status", "--porcelain").split() == ["M", "plan.json", "M", "train.py"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--preset", "huge"), "unknown preset 'huge'"),
        (("--dataset", "none"), "there is nothing to train on: no dataset in"),
    ],
)
def test_what_cannot_be_trained_is_bad_input(versions, words, line):
    code, rows, told = versions.gate({}, {}, *words)
    assert code == 2 and rows is None and line in told and versions.stub.asked == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--preset", "nope"), "unknown preset 'nope'"),
        (("--preset", ""), "unknown preset ''"),
        (("--dataset", "nope"), "there is nothing to train on: no dataset in"),
    ],
)
def test_what_cannot_be_trained_is_refused_where_no_step_differs_too(here, words, line, capsys):  # noqa: F811
    here.commit()
    assert main(["--root", str(here.path), "gate", "--base", "HEAD", *words]) == 2
    assert line in capsys.readouterr().err
