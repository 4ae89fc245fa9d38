"""The doctor names what is there, what is missing and what to do about it, and never raises."""

import json
import shutil

import pytest

from autoresearch_common import compiler as system_compiler
from autoresearch_data.dataset import Manifest
from autoresearch_data.tokens import SplitSummary
from autoresearch_lab import doctor, engine, hardware
from autoresearch_lab.cli import app, machine, train
from autoresearch_lab.hardware import Hardware
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote import registry
from autoresearch_lab.promote.registry import Promotion


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    return Root(tmp_path)


def found(root):
    return {(f.group, f.name): f for f in doctor.examine(root, Ledger(root.ledger))}


def test_this_machine_can_run_the_cpu_engine(lab):
    findings = found(lab)
    assert findings["engine", "cpu"].state == "ok"
    assert findings["lab", "ledger"].detail == "0 records, chain intact"
    assert findings["data", "datasets"].remedy == "python prepare.py --corpus stdlib"
    assert doctor.usable(list(findings.values()))


def test_an_engine_that_is_named_must_be_able_to_run(lab, capsys, monkeypatch):
    missing = doctor.Diagnosis("engine", "cuda", "missing", "no NVIDIA GPU answers")
    monkeypatch.setattr(machine, "examine", lambda *_: [doctor.Diagnosis("engine", "cpu", "ok", ""), missing])
    for name, code in (("auto", 0), ("cpu", 0), ("cuda", 1)):
        assert app.main(["--root", str(lab.path), "--engine", name, "doctor"]) == code
    assert "This machine cannot run --engine cuda yet" in capsys.readouterr().out


def test_datasets_are_listed_and_damaged_ones_named(lab):
    splits = {name: SplitSummary(1, 1, 1, 1, "a" * 64) for name in ("train", "val")}
    good = json.dumps(Manifest("good", "stdlib", {}, splits, 300, "b" * 64, {}).to_json())
    files = {"tokens/train.bin": {"bytes": 8, "sha256": "0" * 64}}
    short = json.dumps(Manifest("short", "stdlib", {}, splits, 300, "b" * 64, files).to_json())
    for name, text in (("good", good), ("bad", "{"), ("short", short)):
        (lab.path / "data" / name).mkdir(parents=True)
        (lab.path / "data" / name / "dataset.json").write_text(text)
    findings = found(lab)
    assert findings["data", "good"].state == "ok"
    assert findings["data", "bad"].state == "problem" and "--force" in findings["data", "bad"].remedy
    (lab.path / "data" / "short" / "tokens").mkdir()
    (lab.path / "data" / "short" / "tokens" / "train.bin").write_bytes(b"1234")
    assert "tokens/train.bin has 4 bytes instead of 8" in found(lab)["data", "short"].detail


def test_missing_packages_come_with_the_command(lab, monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None if name == "torch" else object())
    monkeypatch.setattr(engine, "has_nvidia_gpu", lambda: False)
    finding = found(lab)["engine", "cpu"]
    assert finding.state == "missing" and finding.remedy == "pip install -e '.[cpu]'"


def test_missing_headers_of_python_are_named_with_what_they_are_for(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(system_compiler.sysconfig, "get_path", lambda name: str(tmp_path))
    finding = found(lab)["machine", "python headers"]
    assert finding.state == "missing" and finding.detail == f"no {tmp_path / 'Python.h'}: a CPU trains uncompiled"
    assert finding.remedy == "install Python's headers, for instance the package python3-dev" and not finding.needed
    (tmp_path / "Python.h").touch()
    assert found(lab)["machine", "python headers"].state == "ok"


def test_what_mlx_can_do_here_is_said(lab, monkeypatch):
    installed = {"mlx": "0.32.4", "mlx-cpu": "0.32.4"}
    monkeypatch.setattr(doctor, "installed", installed.get)
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    findings = found(lab)
    assert "this processor alone" in findings["machine", "mlx device"].detail
    assert findings["machine", "metal"].state == "missing" and "Metal kernels" in findings["machine", "metal"].detail
    del installed["mlx-cpu"]
    assert found(lab)["machine", "mlx device"].state == "problem"
    installed.clear()
    assert ("machine", "mlx device") not in found(lab)


@pytest.mark.parametrize("hip", [None, "6.4.43482"])
def test_an_amd_gpu_takes_a_pytorch_that_is_built_for_it(lab, monkeypatch, hip):
    gpu = Hardware("amd", "AMD gfx942", 192.0, 8)
    for module in (doctor, engine, hardware):
        monkeypatch.setattr(module, "amd", lambda: gpu)
    monkeypatch.setattr(engine, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(engine, "torch_build", lambda: {"hip": hip})
    hardware.detect.cache_clear()
    try:
        findings = found(lab)
    finally:
        hardware.detect.cache_clear()
    assert findings["machine", "amd gpu"].detail == "AMD gfx942, 192 GiB"
    cuda = findings["engine", "cuda"]
    if hip:
        assert cuda.state == "ok" and "default preset upstream for 192 GiB" in cuda.detail
        assert "chosen by --engine auto" in cuda.detail and not engine.lacks_gpu("triton")
    else:
        assert cuda.state == "missing" and "AMD gfx942 is here, and this PyTorch is not built for ROCm" in cuda.detail
        assert engine.automatic() != "cuda" and engine.lacks_gpu("triton")


def test_without_an_engine_the_machine_is_not_usable():
    findings = [doctor.Diagnosis("engine", "cpu", "missing", "no torch")]
    assert not doctor.usable(findings)
    broken = doctor.Diagnosis("lab", "ledger", "problem", "corrupt", needed=True)
    assert not doctor.usable([doctor.Diagnosis("engine", "cpu", "ok", ""), broken])


def test_a_corrupt_ledger_is_a_finding(lab):
    lab.results.mkdir(parents=True)
    lab.ledger.write_text("{}\n{}\n")
    finding = found(lab)["lab", "ledger"]
    assert finding.state == "problem" and finding.needed and "line 1" in finding.detail


@pytest.mark.parametrize(
    ("blocked", "name"),
    [("runs", "run folders"), ("ledger.jsonl", "ledger"), ("ledger.jsonl.lock", "ledger")],
)
def test_places_that_cannot_be_used_are_findings(lab, blocked, name):
    """A file in a folder's place, or a folder in a file's."""
    lab.results.mkdir(parents=True)
    (lab.results / blocked).touch() if blocked == "runs" else (lab.results / blocked).mkdir()
    finding = found(lab)["lab", name]
    assert finding.state == "problem" and finding.needed and str(lab.results / blocked) in finding.detail


def test_a_changed_record_is_a_finding(lab):
    ledger = Ledger(lab.ledger)
    ledger.append("note", settings={"event": "failed", "step": "bench"}, results={"reason": "none"})
    lab.ledger.write_text(lab.ledger.read_text().replace('"bench"', '"verify"'))
    assert "was changed after it was written" in found(lab)["lab", "ledger"].detail


def test_a_root_that_is_not_there_is_not_created(tmp_path):
    root = Root(tmp_path / "none")
    assert found(root)["lab", "root"].state == "problem"
    assert not root.path.exists()


def test_verb_prints_and_exits_honestly(lab, capsys):
    assert app.main(["--root", str(lab.path), "doctor"]) == 0
    assert "This machine can run: " in capsys.readouterr().out
    assert app.main(["--root", str(lab.path), "doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["usable"] is True
    lab.ledger.write_text("{}\n{}\n")
    assert app.main(["--root", str(lab.path), "doctor"]) == 1
    assert "cannot run the lab yet" in capsys.readouterr().out


def test_list_targets_shows_kernels_and_their_evidence(lab, capsys):
    from autoresearch_lab.catalog import load_catalog

    kernel = load_catalog(lab)["rms_norm"].kernel("torch_eager", "torch")
    identity = {"name": kernel.name, "sha256": kernel.sha256}
    for verdict in ("FAIL", "PASS"):
        Ledger(lab.ledger).append("verify", target="rms_norm", kernel=identity, verdict=verdict)
    Ledger(lab.ledger).append(
        "verify", target="rms_norm", kernel={"name": kernel.name, "sha256": "0" * 64}, verdict="FAIL"
    )
    assert app.main(["--root", str(lab.path), "list-targets", "--json"]) == 0
    rows = {row["target"]: row for row in json.loads(capsys.readouterr().out)["targets"]}
    norm = {kernel["name"]: kernel for kernel in rows["rms_norm"]["kernels"]}["torch_eager"]
    assert norm["evidence"] == {"verify": "PASS"} and norm["engines"] == ["cpu", "cuda"] and norm["role"] == "baseline"
    assert rows["muon_update"]["replaces"] == ["newton_schulz"]
    assert app.main(["--root", str(lab.path), "list-targets"]) == 0
    text = capsys.readouterr().out
    assert "rms_norm" in text and "PASS" in text and "(x, eps) -> y" in text


def test_a_promoted_kernel_that_is_not_used_any_more_is_told(lab, capsys):
    shutil.copytree(lab.kernels.resolve(), lab.path / "copy", ignore=shutil.ignore_patterns("promoted*.toml"))
    lab.kernels.unlink()
    (lab.path / "copy").rename(lab.kernels)
    common = {"device": "cpu-1", "target": "rope", "sha256": "0" * 64}
    pairs = (("abacus", "beads"), ("cpu", "cpp_fused"))
    entries = [Promotion(engine=name, kernel=kernel, **common) for name, kernel in pairs]
    lab.promoted_local.write_text(registry.text(entries))
    lost = found(lab)["lab", "promoted kernel"]
    assert lost.state == "problem" and "rope: promoted kernel cpp_fused was changed" in lost.detail
    for verb in ("list-targets", "promotion-check"):
        app.main(["--root", str(lab.path), verb, *(["--target", "rope"] if verb == "promotion-check" else [])])
        said = " ".join(capsys.readouterr().out.split())
        assert "rope: promoted kernel cpp_fused was changed after promotion" in said and "no engine abacus" in said


def test_a_promotion_whose_evidence_is_gone_is_told(tmp_path):
    root, ledger = Root(tmp_path), Ledger(tmp_path / "ledger.jsonl")
    root.kernels.mkdir()
    record = ledger.append("verify", target="a", kernel={"name": "fused", "sha256": "0" * 64}, verdict="PASS")
    common = {"engine": "cpu", "device": "cpu-1", "kernel": "fused", "sha256": "0" * 64}
    kept, lost = (Promotion(target=name, evidence=of, **common) for name, of in (("a", record.id), ("b", "9" * 64)))
    root.promoted_local.write_text(registry.text([kept, lost]))
    (told,) = doctor._unfounded_promotions(root, ledger)
    assert told.detail == f"promoted b=fused rests on record 999999999999, which is not in {ledger.path}"


def test_every_verb_tells_of_promoted_kernels_whose_ledger_is_gone(lab, capsys):
    common = {"engine": "cpu", "device": "cpu-1", "kernel": "cpp_fused", "sha256": "0" * 64}
    lab.kernels.unlink()
    shutil.copytree(CHECKOUT / "kernels" / "rope", lab.kernels / "rope")
    lab.promoted_local.write_text(registry.text([Promotion(target="rope", evidence="9" * 64, **common)]))
    told = "promoted rope=cpp_fused rests on record 999999999999, which is not in "
    assert app.main(["--root", str(lab.path), "ledger"]) == 1
    assert told in " ".join(capsys.readouterr().out.split())
    assert app.main(["--root", str(lab.path), "list-targets"]) == 0
    assert f"warning: ledger: {told}" in " ".join(capsys.readouterr().err.split())
    train.main(["--root", str(lab.path), "--engine", "none"])
    assert f"note: {told}" in " ".join(capsys.readouterr().err.split())


def test_list_targets_without_kernels_is_bad_input(tmp_path, capsys):
    assert app.main(["--root", str(tmp_path), "list-targets"]) == 2
    assert "no targets under" in capsys.readouterr().err


def test_what_confined_jobs_are_not_cut_off_from_is_named_and_no_reason_not_to_work(lab, monkeypatch):
    monkeypatch.setattr(doctor, "not_enforced_here", lambda folder: ["processes", "reads"])
    findings = found(lab)
    finding = findings["lab", "confinement"]
    assert finding.state == "problem" and finding.detail == "not enforced on this system: processes, reads"
    assert doctor.usable(list(findings.values()))
    monkeypatch.setattr(doctor, "not_enforced_here", lambda folder: [])
    assert found(lab)["lab", "confinement"].state == "ok"
