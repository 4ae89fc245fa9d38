"""The verbs of A/B and promotion: bad input is one line and exit code 2, before anything is measured."""

import json

import pytest

from autoresearch_lab.cli.app import main
from autoresearch_lab.invocation import program


@pytest.fixture
def call(lab, monkeypatch, capsys):
    """`call(*arguments)` -> (exit code, stdout, stderr) in the planted lab."""
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda engine, root: lab.context)

    def run(*arguments):
        code = main(["--engine", "cpu", "--root", str(lab.root.path), *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    lab.engine.plan.clear()
    lab.engine.plan["candidate"] = lab.kernel.sha256
    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ab",), "name a kernel: TARGET=NAME or the folder of a workspace"),
        (("ab", "no_such=cpp_fused"), "unknown target 'no_such'; known: adamw_update"),
        (("ab", "rms_norm=no_such"), "no torch kernel 'no_such'; known: torch_eager"),
        (("ab", "rms_norm"), "rms_norm is a target; name one of its kernels as rms_norm=NAME: torch_eager"),
        (("ab", "--workspace", "/no/such/folder"), "/no/such/folder"),
        (("ab", "rms_norm=torch_eager"), "uses already"),
        (("ab", "rms_norm=torch_library", "--against", "best"), "cannot read selection 'best'"),
        (("ab", "rms_norm=torch_library", "--steps", "0"), "--steps"),
        (("ab", "rms_norm=torch_library"), "no verify that counts here; run: kernel-lab"),
        (("promotion-check", "--target", "no_such"), "unknown target 'no_such'"),
        (("promotion-check", "rms_norm=no_such"), "no torch kernel 'no_such'"),
        (("promote",), "name a kernel: TARGET=NAME or the folder of a workspace"),
        (("demote", "--target", "no_such"), "unknown target 'no_such'"),
        (("demote", "--target", "rms_norm"), "no kernel is promoted for target rms_norm"),
    ],
)
def test_bad_input(call, lab, arguments, message):
    code, out, err = call(*arguments)
    assert code == 2 and out == "" and err.startswith("error: ") and message in err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert lab.engine.asked == [] and lab.ledger.records() == []


def test_a_refused_promotion_is_a_negative_verdict(call):
    code, out, err = call("promote", "rms_norm=torch_library")
    assert code == 1 and out == "" and err.startswith("error: ") and "no verify that counts here" in err


def test_from_ab_to_promote_and_back(call, lab):
    lab.evidence()
    name = f"{lab.target.name}={lab.kernel.name}"
    check = ("promotion-check", name)
    code, out, _ = call(*check)
    assert code == 1 and f"next: {program(lab.root.path, 'cpu')} ab {name}" in out
    code, out, err = call("ab", name)
    assert code == 0 and out.startswith("PROMOTE") and "tokens/s" in out and "A/B: compiling both arms" in err
    count = len(lab.ledger.records())
    code, out, err = call("integration-ab", name, "--json")
    assert code == 0 and json.loads(out)["verdict"] == "PROMOTE" and "already decided" in err
    assert len(lab.ledger.records()) == count
    code, out, _ = call(*check, "--json")
    assert code == 0 and json.loads(out)["kernels"][0]["next"] == f"{program(lab.root.path, 'cpu')} promote {name}"
    code, out, _ = call("promote", name)
    assert code == 0 and f"promoted {name}" in out
    code, out, err = call("ab", name)
    assert code == 2 and "uses already; compare --against baseline" in err
    code, out, _ = call("demote", "--target", lab.target.name)
    assert code == 0 and "uses torch_eager again" in out
    assert not lab.root.promoted_local.exists()


def test_a_rejected_kernel_ends_with_code_one(call, lab):
    lab.evidence()
    lab.engine.plan["gain"] = 0.0
    code, out, _ = call("ab", f"{lab.target.name}={lab.kernel.name}")
    assert code == 1 and out.startswith("REJECT") and "no gain in the trainer" in " ".join(out.split())


GOOD, SAME, WORSE = {"gain": 0.5, "harm": 0.0}, {"gain": 0.0, "harm": 0.0}, {"gain": 0.5, "harm": 0.05}
SLOWER, UNSURE = {"gain": -0.1, "harm": 0.0}, {"gain": 0.5, "harm": 0.0, "foreign": 0.9}


@pytest.mark.parametrize(
    ("small", "large", "verdict", "reason"),
    [
        (GOOD, GOOD, "PROMOTE", "gains with cpu-nano, cpu-tiny, worse with none"),
        (GOOD, SAME, "PROMOTE", "gains with cpu-nano, worse with none"),
        (SAME, SAME, "REJECT", "no gain with any preset"),
        (GOOD, WORSE, "REJECT", "worse with cpu-tiny: val_bpb is worse"),
        (WORSE, GOOD, "REJECT", "worse with cpu-nano: val_bpb is worse"),
        (GOOD, SLOWER, "REJECT", "worse with cpu-tiny: no gain in the trainer"),
        (GOOD, UNSURE, "UNDECIDED", "not settled with cpu-tiny"),
    ],
)
def test_the_suite_promotes_what_is_worse_nowhere(call, lab, small, large, verdict, reason):
    lab.evidence()
    lab.engine.plan["presets"] = {"cpu-nano": small, "cpu-tiny": large}
    name = f"{lab.target.name}={lab.kernel.name}"
    suite = ("integration-suite", "--presets", "cpu-nano, cpu-tiny,cpu-nano", name)
    code, out, _ = call(*suite, "--json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (0 if verdict == "PROMOTE" else 1, verdict)
    assert reason in found["reason"] and list(found["presets"]) == ["cpu-nano", "cpu-tiny"]
    note = lab.ledger.latest(kind="note")
    assert note.settings.event == "suite" and note.results.verdict == verdict
    assert {lab.ledger.get(record).settings.preset for record in note.settings.presets.values()} == {
        "cpu-nano", "cpu-tiny",
    }  # fmt: skip

    # What the suite says is what promotion goes by, whichever preset came last.
    code, out, err = call("promote", name)
    promoted = verdict == "PROMOTE" or reason.startswith("not settled")  # a disturbed A/B concluded nothing
    assert (code == 0) == promoted, err
    if not promoted:
        assert "the A/B says REJECT" in err


def test_the_suite_needs_presets(call, lab):
    lab.evidence()
    code, _, err = call("integration-suite", "--presets", " , ", f"{lab.target.name}={lab.kernel.name}")
    assert code == 2 and "--presets needs one or more names" in err and lab.engine.asked == []


@pytest.mark.parametrize("asked", [("ab", "--preset", "typo"), ("integration-suite", "--presets", "cpu-nano,typo")])
def test_an_unknown_preset_is_refused_before_anything_is_measured(call, lab, asked):
    lab.evidence()
    code, _, err = call(*asked, f"{lab.target.name}={lab.kernel.name}")
    assert code == 2 and "unknown preset 'typo'; known: cpu-nano" in err and lab.engine.asked == []
