"""Captures of the real trainer: PyTorch's profiler on the CPU end to end, and a stand-in for Nsight Systems."""

import json
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_data.build import prepare
from autoresearch_data.local import LocalCorpus
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import main
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.trace import capture as steady
from autoresearch_lab.trace.profile import profile_trace
from autoresearch_trainer.jobs.tracing import TraceAnswer

from .database import two_steps

# The GPU's engine on a CPU: everything but what only a GPU can do.
WITHOUT_GPU = replace(ENGINES["cuda"], without_gpu=True)
DEVICE = {"kind": "cuda", "name": "Test GPU", "key": "cuda-1"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("lab"))
    (root.path / "kernels").symlink_to(CHECKOUT / "kernels")
    stdlib = Path(sysconfig.get_path("stdlib"))
    names = ("argparse", "ast", "inspect", "typing", "tarfile", "turtle", "doctest")
    prepare(LocalCorpus("small", [stdlib / f"{name}.py" for name in names]), root.data("small"))
    return root


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def call(lab, *arguments):
    return main(["--root", str(lab.path), *(str(argument) for argument in arguments)])


def test_from_the_trainer_to_the_review_on_a_cpu(lab, tmp_path, capsys):
    ledger, prefix = Ledger(lab.ledger), tmp_path / "deep" / "one.v1"
    options = ["--preset", "cpu-nano", "--dataset", "small", "--steps", "2", "--time-budget", "60", "--output", prefix]
    assert call(lab, "--engine", "cpu", "capture", *options, "--json") == 0
    captured = json.loads(capsys.readouterr().out)
    record = ledger.latest(kind="capture")
    assert captured["record"] == record.id and captured["tool"] == "torch" and captured["steps"] == 2
    assert record.settings.event == "trace" and record.settings.dataset.name == "small"
    assert captured["selection"]["rope"]["sha256"] == record.settings.selection["rope"].sha256
    assert captured["device"]["kind"] == "cpu" and not captured["compiled"] and len(captured["step_ms"]) == 2
    (file,) = captured["files"]
    assert file["name"] == "one.v1.pt.trace.json.gz" and record.artifacts[0].sha256 == file["sha256"]
    assert not [folder for folder in lab.runs.iterdir() if folder.name.startswith("trace")]

    metadata, output = prefix.with_name("one.v1.metadata.json"), tmp_path / "profile.json"
    assert call(lab, "trace-profile", "--metadata", metadata, "--output", output) == 0
    capsys.readouterr()
    found = json.loads(output.read_text())
    rows = {row["target"]: row for row in found["targets"]}
    loss, muon = rows["softcap_cross_entropy"], rows["muon_update"]
    assert loss["forward_ms"] > 0 and loss["backward_ms"] > 0 and loss["calls_per_step"] >= 1
    assert muon["total_ms"] > muon["self_ms"] and muon["backward_ms"] == 0  # newton_schulz is part of it
    assert rows["newton_schulz"]["optimizer_ms"] > 0 and "attention_mask" not in rows  # made once, before the steps
    assert found["steps"] == 2 and 0 < found["busy_ms"] <= found["step_ms"] and 0 <= found["idle_share"] < 0.9
    assert found["attributed_ms"] + found["unattributed_ms"] == pytest.approx(found["device_ms"])
    assert 0 < found["unattributed_share"] < 0.8 and found["kinds"].keys() == {"operator"}
    # What the steps took by the trainer's own clock, and what the trace shows of them.
    assert found["step_ms"] == pytest.approx(sum(captured["step_ms"]) / 2, rel=0.1)
    assert min(found["phases"][phase] for phase in ("forward", "backward", "optimizer")) > 0
    assert found["phases"]["backward"] > found["phases"]["other"]

    assert call(lab, "auto-review", "--metadata", metadata, "--json") == 0
    review = json.loads(capsys.readouterr().out)
    assert review["capture"] == record.id and any(one["rule"] == "worth-a-workspace" for one in review["findings"])
    assert not ledger.problems()
    # The files stay, and are not written over.
    assert call(lab, "--engine", "cpu", "capture", *options) == 2
    assert "exists already" in capsys.readouterr().err and len(ledger.find(kind="capture")) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "huge"), "unknown preset 'huge'"),
        (("--dataset", "none"), "no dataset in"),
        (("--kernels", "rope=imaginary"), "rope has no torch kernel 'imaginary'"),
        (("--output", "/proc/none/p"), "cannot write to /proc/none"),
        (("--output", "/tmp"), "is a folder"),
        (("--time-budget", "0"), "is not in the range"),
        (("--time-budget", "inf"), "is not a finite number"),
        (("--time-budget", "nan"), "is not a finite number"),
        (("--steps", "0"), "is not in the range"),
        (("--tool", "nsys"), "--tool nsys traces NVIDIA GPUs"),
        (("--tool", "perf"), "is not one of"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(lab, tmp_path, capsys, arguments, words):
    before = len(Ledger(lab.ledger).find(kind="capture"))
    given = {"--output": str(tmp_path / "x"), "--dataset": "small", "--preset": "cpu-nano", **dict([arguments])}
    assert call(lab, "--engine", "cpu", "capture", *(word for pair in given.items() for word in pair)) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(told) == 1 and words in told[0]
    assert list(tmp_path.iterdir()) == [] and len(Ledger(lab.ledger).find(kind="capture")) == before


def test_the_gpu_engine_without_a_gpu_says_so(lab, capsys, monkeypatch):
    monkeypatch.setattr("autoresearch_lab.engine.has_nvidia_gpu", lambda: False)
    assert call(lab, "--engine", "cuda", "capture") == 2
    assert "engine cuda cannot run here: no NVIDIA GPU answers" in capsys.readouterr().err


def test_without_nsys_pytorch_takes_the_trace(no_tools):
    tool, remark = steady.choose_tool("auto", ENGINES["cuda"])
    assert tool == "torch" and "nsys is not on this machine" in remark
    assert steady.choose_tool("auto", ENGINES["cpu"]) == ("torch", None)
    with pytest.raises(LabError, match="nsys is not on this machine"):
        steady.choose_tool("nsys", ENGINES["cuda"])


def take(lab, prefix, engine=WITHOUT_GPU, preset="cpu-nano"):
    """A capture by the GPU's engine, as far as it goes without one."""
    context = Context(engine, DEVICE, {"key": "s", "torch": "2"})
    ledger = Ledger(lab.ledger)
    tool, _ = steady.choose_tool("auto", engine)
    request = steady.Request(
        preset, lab.data("small"), resolve("baseline", load_catalog(lab), ENGINES["cpu"], lab), tool, steps=1, warmup=1
    )
    return steady.capture(Lab.of(context, lab, ledger), request, steady.new_prefix(lab, prefix)), ledger


def test_nsys_is_asked_for_the_steady_steps_alone(lab, tmp_path, stand_in):
    pytest.importorskip("nvtx")
    nsys = stand_in("nsys")
    nsys.set(database=str(two_steps().write(tmp_path / "made.sqlite")))
    metadata, ledger = take(lab, tmp_path / "one")
    profile, export, version = nsys.calls
    assert profile[0] == "profile" and export[:2] == ["export", "--type=sqlite"] and version == ["--version"]
    wanted = {"--capture-range=cudaProfilerApi", "--capture-range-end=stop", "--trace=cuda,nvtx"}
    assert wanted <= set(profile) and "autoresearch_lab.trace.child" in profile
    assert [file.name for file in metadata.files] == ["one.nsys-rep", "one.sqlite"]
    assert metadata.tool == "nsys" and metadata.tool_version == "version 2025.1.1" and metadata.steps == 1
    assert ledger.latest(kind="capture").settings.tool_version == "version 2025.1.1"
    found = profile_trace(tmp_path / "one.metadata.json", ledger)
    assert found.targets[0].target == "rope" and found.steps == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"silent": 3}, "nsys ended with status 3 and no answer"),
        ({"no_report": True, "after": "Error: no permission"}, "nsys recorded nothing: Error: no permission"),
        ({"export_fails": True}, "nsys export: Error: the report cannot be read"),
    ],
)
def test_where_nsys_fails_it_is_told_and_nothing_is_left(lab, tmp_path, stand_in, monkeypatch, settings, words):
    pytest.importorskip("nvtx")
    stand_in("nsys").set(**settings)
    before = len(Ledger(lab.ledger).records())
    with pytest.raises(LabFailure, match=words):
        take(lab, tmp_path / "one")
    assert not list(tmp_path.glob("one*")) and len(Ledger(lab.ledger).records()) == before


def test_where_the_record_cannot_be_written_the_prefix_stays_free(lab, tmp_path, monkeypatch):
    """As when the ledger was damaged or its disk filled up while the trainer ran."""

    def traced(context, request, folder, on_progress):
        (folder / "trace").write_text("a trace")
        nothing = {"selection": {}, "compiled": False, "step_ms": [], "steps": 0, "bytes": 0}
        found = TraceAnswer.model_construct(**{**dict.fromkeys(TraceAnswer.model_fields), **nothing})
        return found, "torch", [folder / "trace"]

    def refuse(*_, **__):
        raise LabError("ledger: cannot append")

    monkeypatch.setattr(steady, "_run", traced)
    monkeypatch.setattr(steady, "choose_tool", lambda *_: ("torch", None))
    monkeypatch.setattr(Ledger, "append", refuse)
    with pytest.raises(LabError, match="cannot append"):
        take(lab, tmp_path / "one")
    assert list(tmp_path.iterdir()) == []


def test_what_the_trainer_refuses_under_nsys_is_bad_input(lab, tmp_path, stand_in):
    stand_in("nsys")
    with pytest.raises(LabError, match="unknown preset 'huge'"):
        take(lab, tmp_path / "one", preset="huge")
