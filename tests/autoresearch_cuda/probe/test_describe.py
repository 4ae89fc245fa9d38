"""The identity of a machine must be stable, and must not hold what changes by itself."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from autoresearch_common import instruction_set
from autoresearch_cuda.probe import JOBS
from autoresearch_cuda.probe import describe as describe_module
from autoresearch_cuda.probe.describe import describe_software
from autoresearch_lab.paths import CHECKOUT
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.probe import identity


def test_two_calls_agree_and_are_plain_json(tmp_path):
    first = JOBS["describe"]({"device": "cpu"}, tmp_path, lambda fields: None)
    second = JOBS["describe"]({"device": "cpu"}, tmp_path, lambda fields: None)
    assert json.loads(json.dumps(first)) == second
    assert first["device"]["kind"] == "cpu"
    assert first["device"]["cores"]["usable"] >= 1
    assert set(first["software"]) == {"python", "torch", "numpy", "compiler", "triton", "cuda", "instruction_set"}


def test_the_versions_are_those_that_the_packages_say_when_they_are_imported(tmp_path):
    import numpy
    import torch

    found = describe_software("cuda")
    assert (found["torch"], found["cuda"]) == (str(torch.__version__), torch.version.cuda)
    assert found["numpy"] == numpy.__version__


def test_an_amd_gpu_is_named_by_its_architecture(monkeypatch):
    """By a ROCm build, whose GPUs answer as CUDA's; there is no nvidia-smi to ask."""
    import torch

    properties = SimpleNamespace(
        name="AMD Instinct MI300X", gcnArchName="gfx942:sramecc+:xnack-", total_memory=192 << 30,
        multi_processor_count=304, major=9, minor=4,
    )  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")
    monkeypatch.setattr(
        describe_module, "torch_build", lambda: {"__version__": "2.13+rocm", "cuda": None, "hip": "6.4"}
    )
    versions = {"triton-rocm": "3.6.0"}
    monkeypatch.setattr(identity, "installed", versions.get)
    device, software = describe_module.describe("cuda"), describe_software("cuda")
    assert (device["name"], device["capability"]) == ("AMD Instinct MI300X", "gfx942:sramecc+:xnack-")
    assert device["driver"] is None and device["memory_gb"] == 192
    assert (software["cuda"], software["hip"], software["triton"]) == (None, "6.4", "3.6.0")


def test_a_processor_is_described_without_pytorch():
    code = """if True:
        import sys
        from pathlib import Path
        from autoresearch_cuda.probe import JOBS
        JOBS["describe"]({"device": "cpu"}, Path(), print)
        sys.exit("torch" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT).returncode == 0


def test_memory_is_no_part_of_a_cpu():
    assert not [key for key in identity.describe_cpu() if "memory" in key]


def test_unknown_device_is_bad_input(tmp_path):
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        JOBS["describe"]({"device": "tpu"}, tmp_path, lambda fields: None)


def test_arm_fields_are_understood(monkeypatch):
    first = "processor\t: 0\nFeatures\t: fp asimd bf16 sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"
    text = first + "\nprocessor\t: 1\n"
    monkeypatch.setattr(identity.Path, "read_text", lambda self, **_: text)
    instruction_set.features.cache_clear()
    try:
        facts = identity.describe_cpu()
    finally:
        instruction_set.features.cache_clear()
    assert facts["isa"] == ["asimd", "bf16", "sve"]
    assert facts["model"] == "0xd40"


def test_evidence_is_of_one_instruction_set(tmp_path, monkeypatch):
    """Another one is other software; one that does not exist is bad input, and a GPU has none."""
    for each in instruction_set.available():
        monkeypatch.setenv(instruction_set.VARIABLE, each.name)
        assert describe_software("cpu")["instruction_set"] == each.name
        assert describe_software("cuda")["instruction_set"] is None
    monkeypatch.setenv(instruction_set.VARIABLE, "mmx")
    with pytest.raises(ConfigError, match="AUTORESEARCH_INSTRUCTION_SET=mmx: this processor has"):
        JOBS["describe"]({"device": "cpu"}, tmp_path, lambda fields: None)


def test_compiler_is_found_through_the_environment(monkeypatch, tmp_path):
    fake = tmp_path / "mycxx"
    fake.write_text("#!/bin/sh\necho 'clang version 18.1.3'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    assert identity.describe_compiler() == "clang 18.1.3"


def test_every_job_name_is_listed():
    known = {"describe", "start", "ceilings", "profile", "call", "compile", "time", "throughput", "train", "evaluate"}
    known |= {"trace", "one_call", "check"}
    assert known == set(JOBS)
    with pytest.raises(KeyError):
        JOBS["no such job"]
