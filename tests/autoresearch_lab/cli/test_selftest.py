"""Verbs `exploits` and `controls`: the table, the exit code, and what is refused."""

import json

import pytest

from autoresearch_lab.cli import selftest
from autoresearch_lab.cli.app import main
from autoresearch_lab.verify import exploits
from autoresearch_lab.verify.exploits import ExploitResult


@pytest.fixture
def judged(monkeypatch):
    """`judged(name, ...)` makes the suite answer with these outcomes instead of running kernels."""

    def plant(*outcomes):
        names = [case.name for case in exploits.cases()][: len(outcomes)]
        results = [
            ExploitResult(name, "t", "accuracy", outcome, None, "as planted", 1.0)
            for name, outcome in zip(names, outcomes, strict=True)
        ]

        def judge(names, on_result, **options):
            for result in results:
                on_result(result)
            return results

        monkeypatch.setattr(exploits, "judge", judge)

    return plant


def test_real_kernels_are_judged(capsys, uncompiled):
    assert main(["exploits", "gradients_clipped", "relu_squared_branchless", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"caught": 1, "passed": 1}
    assert found["rows"][0]["failed_check"] == found["rows"][0]["expected"]


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (("caught", "passed", "skipped"), 0),
        (("caught", "missed"), 1),
        (("passed", "wrongly rejected"), 1),
        (("caught by another check",), 0),
    ],
)
def test_exit_codes(judged, capsys, outcomes, code):
    judged(*outcomes)
    assert main(["exploits"]) == code
    out = capsys.readouterr().out
    assert all(f"1 {outcome}" in out for outcome in outcomes)


def test_controls_of_a_target(capsys, monkeypatch):
    assert main(["controls", "--target", "relu_squared"]) == 0
    out = capsys.readouterr().out
    assert "relu_squared  admitted" in out and "zeros in out" in out and "0 of them not noticed" in out
    found = {"none": True, "zeros in out/0": True, "a tile dropped in out/0": False}
    monkeypatch.setattr(selftest, "plant_controls", lambda target, workloads, seed: dict(found))
    assert main(["controls", "--target", "relu_squared", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["targets"][0]["admitted"] is False


def test_what_is_refused(capsys, monkeypatch, tmp_path):
    assert main(["exploits", "no_such"]) == 2
    assert f"no kernel is called 'no_such'; they lie in {exploits.FOLDER}" in capsys.readouterr().err
    assert main(["exploits", "zeroes"]) == 2 and "did you mean zeros?" in capsys.readouterr().err
    assert main(["controls", "--target", "no_such"]) == 2 and "unknown target" in capsys.readouterr().err
    monkeypatch.setattr(exploits, "FOLDER", tmp_path)
    assert main(["exploits"]) == 2 and "checkout" in capsys.readouterr().err
