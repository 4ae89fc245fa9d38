"""The verb, with the real trainer on a small real corpus, and what it says to bad input."""

import json
import os
import sysconfig
from pathlib import Path

import pytest

from autoresearch_data.build import prepare
from autoresearch_data.local import local_path
from autoresearch_lab import workloads
from autoresearch_lab.cli import app
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.profile import load


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A root of its own with the project's kernels and a corpus that is just large enough for 8192 tokens."""
    root = Root(tmp_path_factory.mktemp("lab"))
    (root.path / "kernels").symlink_to(CHECKOUT / "kernels")
    corpus = root.path / "corpus"
    corpus.mkdir()
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    (corpus / "all.jsonl").write_text(
        "".join(json.dumps({"text": p.read_text("utf-8", "replace")}) + "\n" for p in sources), encoding="utf-8"
    )
    prepare(local_path(corpus), root.data("small"))
    return root


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """This root's data; one thread, because two that wait for each other crawl on a machine that is busy with tests."""
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def call(lab, *arguments):
    return app.main(["--engine", "cpu", "--root", str(lab.path), "profile", "--dataset", "small", *arguments])


def test_profile_for_real(lab, tmp_path, capsys):
    output = tmp_path / "deep" / "profile.json"
    assert call(lab, "--preset", "cpu-nano", "--steps", "4", "--top-k", "3", "--output", str(output), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    profile = load(output)
    assert printed["id"] == profile.id == Ledger(lab.ledger).latest(kind="profile").id
    assert profile.attributed_ms + profile.unattributed_ms == pytest.approx(profile.sum_ms)
    assert profile.sum_deviation == pytest.approx(profile.sum_ms / profile.step_ms - 1)
    assert {row.target for row in profile.targets} >= {"rms_norm", "attention_mask", "newton_schulz", "muon_update"}
    assert [row.rank for row in profile.targets] == list(range(1, len(profile.targets) + 1))
    loss = next(row for row in profile.targets if row.target == "softcap_cross_entropy")
    assert loss.forward_ms > 0 and loss.backward_ms > 0 and loss.saveable_ms > 0 and not loss.impossible
    for name, reference in profile.workloads.items():
        found = workloads.load(lab.path / reference.path, expected=reference.sha256)
        assert found.target == name and found.preset == "cpu-nano" and found.data == profile.dataset.model_dump()
        for workload in found.workloads:
            arrays = {spec["name"] for spec in workload["args"] if spec["kind"] == "array"}
            assert set(found.sample(workload)) == arrays


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "huge"), "unknown preset 'huge'; known: cpu-nano"),
        (("--dataset", "none"), "no dataset in"),
        (("--kernels", "rms_norm=imaginary"), "rms_norm has no torch kernel 'imaginary'"),
        (("--output", "/proc/none/p.json"), "cannot write to /proc/none"),
        (("--output", "/tmp"), "is a folder"),
        (("--output", "{pipe}"), "pipe: it is not a regular file"),
        (("--steps", "1"), "is not in the range"),
        (("--top-k", "0"), "is not in the range"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(lab, tmp_path, tmp_path_factory, capsys, monkeypatch, arguments, message):
    pipe = tmp_path_factory.mktemp("special") / "pipe"
    os.mkfifo(pipe)
    arguments = [argument.format(pipe=pipe) for argument in arguments]
    monkeypatch.chdir(tmp_path)
    before = len(Ledger(lab.ledger).records())
    assert call(lab, *arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0]
    assert len(Ledger(lab.ledger).records()) == before
    assert list(tmp_path.iterdir()) == [] and pipe.is_fifo()
