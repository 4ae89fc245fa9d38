"""Nsight Compute on one captured call, with a stand-in: what it is asked, what is recorded, what is refused."""

import json
from dataclasses import replace

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import main
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.trace import deep, ncu

GPU = Context(replace(ENGINES["cuda"], without_gpu=True), {"kind": "cuda", "key": "cuda-1"}, {"key": "s"})
READINGS = (
    '==PROF== Disconnected\n"ID","Kernel Name","gpu__time_duration.sum","launch__registers_per_thread"\n'
    '"","","us","register/thread"\n"0","_normalise_rows","12.5","40"\n'
)


@pytest.fixture
def measured(root, captured, stand_in, monkeypatch):
    """measure(workload, hash of the kernel) -> (record, ledger) with one captured call of rms_norm; the stand-in."""
    monkeypatch.setattr(deep, "ensure_workloads", lambda *_, **__: captured)
    program, target, ledger = stand_in("ncu"), load_catalog(root)["rms_norm"], Ledger(root.ledger)
    kernel = target.kernel("torch_eager", "torch")

    def measure(workload=None, sha256=None):
        chosen = replace(kernel)
        if sha256 is not None:
            vars(chosen)["sha256"] = sha256
        return deep.deep_profile(Lab.of(GPU, root, ledger), target, chosen, str(program.program), workload), ledger

    return measure, program


def test_one_call_is_measured_and_recorded(measured, tmp_path):
    measure, program = measured
    program.set(before="==PROF== Connected", after=READINGS)
    record, ledger = measure()
    command = program.calls[0]
    assert command[command.index("--profile-from-start") + 1] == "off" and "--csv" in command
    assert "gpu__time_duration.sum" in command[command.index("--metrics") + 1]
    assert record.kind == "trace" and record.settings.tool == "ncu" and record.target == "rms_norm"
    assert record.kernel.name == "torch_eager" and record.settings.workload == "rms_norm-1"
    reading = {"kernel": "_normalise_rows", "duration": "12.5 us", "registers per thread": "40 register/thread"}
    assert record.results.launches == [reading] and not ledger.problems()
    deep.save(record, tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["id"] == record.id and found["results"]["launches"] == [reading] and found["schema"] == 2


def test_counters_that_are_nan_are_not_measured():
    text = READINGS.replace('"40"', '"nan"') + '"1","_second","(!) nan","n/a"\n'
    first, second = ncu.read_csv(text)
    assert first == {"kernel": "_normalise_rows", "duration": "12.5 us", "registers per thread": "not measured"}
    assert second == {"kernel": "_second", "duration": "not measured", "registers per thread": "not measured"}


def test_a_kernel_that_is_not_the_one_named_is_refused_under_the_tool(measured, root):
    measure, program = measured
    program.set(after=READINGS)
    with pytest.raises(LabError, match="rms_norm"):
        measure(sha256="0" * 64)
    assert not list(root.runs.glob("ncu-*"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"after": "==ERROR== ERR_NVGPUCTRPERM - no permission"}, "ncu measured nothing: ==ERROR== ERR_NVGPUCTRPERM"),
        ({"after": READINGS.replace("12.5", "nan").replace('"40"', '"nan"')}, "every counter of its 1 launches is nan"),
        ({"silent": 9}, "ncu ended with status 9 and no answer"),
    ],
)
def test_where_ncu_measures_nothing_it_says_why(measured, settings, words):
    measure, program = measured
    program.set(**settings)
    with pytest.raises(LabFailure, match=words):
        measure()


def test_an_unknown_call_is_refused(measured):
    measure, _ = measured
    with pytest.raises(LabError, match="no captured call of rms_norm is 'none'; known: rms_norm-1"):
        measure("none")


def test_without_a_gpu_or_ncu_it_is_one_line(root, tmp_path, capsys, monkeypatch, no_tools):
    words = ["deep-profile", "rope=triton_fused", "--output", str(tmp_path / "o.json")]
    with pytest.raises(LabError, match="deep-profile is for --engine cuda or cpu, not engine mlx"):
        deep.require(ENGINES["mlx"])
    assert main(["--root", str(root.path), "--engine", "cuda", *words]) == 2
    assert "no NVIDIA GPU answers" in capsys.readouterr().err
    monkeypatch.setattr("autoresearch_lab.lab.choose", lambda name: ENGINES["cuda"])
    assert main(["--root", str(root.path), "--engine", "cuda", *words]) == 2
    told = capsys.readouterr().err
    assert "ncu is not on this machine" in told and len(told.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("imaginary=triton_fused", None), "unknown target 'imaginary'"),
        (("rope=imaginary", None), "has no torch kernel 'imaginary'"),
        (("rope=cpp_fused", None), "deep-profile: rope=cpp_fused is for cpu, not for engine cuda"),
        (("rope=triton_fused", "/tmp"), "is a folder"),
        (("rope=triton_fused", "/proc/none/o.json"), "cannot write to /proc/none"),
    ],
)
def test_bad_input_is_one_line(root, tmp_path, capsys, monkeypatch, stand_in, arguments, words):
    stand_in("ncu")
    monkeypatch.setattr("autoresearch_lab.lab.choose", lambda name: ENGINES["cuda"])
    kernel, output = arguments
    assert main(["--root", str(root.path), "deep-profile", kernel, "--output", output or str(tmp_path / "o.json")]) == 2
    told = capsys.readouterr().err
    assert words in told and len(told.strip().splitlines()) == 1 and not (tmp_path / "o.json").exists()


def test_readings_of_nsight_compute():
    (row,) = ncu.read_csv(READINGS)
    assert row == {"kernel": "_normalise_rows", "duration": "12.5 us", "registers per thread": "40 register/thread"}
    assert ncu.read_csv("==ERROR== ERR_NVGPUCTRPERM") == []
