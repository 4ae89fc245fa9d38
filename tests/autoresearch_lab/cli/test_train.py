"""`train.py` from its command line: what it decides, what it leaves behind, and how it refuses."""

import importlib
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autoresearch_data.tokens import Tokens
from autoresearch_lab import engine, hardware, machine, training
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli import app
from autoresearch_lab.cli.train import main
from autoresearch_lab.compare import newest
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import device_key
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote import registry
from autoresearch_lab.promote.registry import Promotion
from autoresearch_lab.promote.selection import resolve
from autoresearch_trainer.console import Console
from autoresearch_trainer.errors import KernelError

VOCAB = 8192


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with the real kernels, and a small prepared dataset of numbers."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    (tmp_path / "kernels").mkdir()
    for folder in (path for path in (CHECKOUT / "kernels").iterdir() if path.is_dir()):
        (tmp_path / "kernels" / folder.name).symlink_to(folder)  # and not what is promoted in this checkout
    (tmp_path / "data" / "stdlib").mkdir(parents=True)
    (tmp_path / "data" / "stdlib" / "dataset.json").write_text("{}")
    rng = np.random.default_rng(0)
    splits = {
        name: Tokens.from_documents(rng.integers(4, VOCAB, size).tolist() for size in rng.integers(50, 300, count))
        for name, count in (("train", 300), ("val", 60))
    }
    tokenizer = SimpleNamespace(vocab_size=VOCAB, bos_id=0, token_bytes=np.ones(VOCAB, dtype=np.int32))
    dataset = SimpleNamespace(name="numbers", fingerprint="f" * 64, tokenizer=tokenizer, split=splits.__getitem__)
    monkeypatch.setattr(training, "open_dataset", lambda folder: dataset)
    yield tmp_path
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def call(lab: Path, *arguments: str) -> int:
    return main(["--root", str(lab), "--engine", "cpu", *arguments])


SMALL = ("--preset", "cpu-nano", "--eval-tokens", "2048", "--compile", "off", "--kernels", "baseline")


def test_print_config_says_what_and_why_and_trains_nothing(lab: Path, capsys):
    assert call(lab, "--print-config") == 0
    chosen, sources = capsys.readouterr().out.split("\n\n")
    lines = chosen.splitlines()
    names = "engine preset dataset batch memory compile evaluation attention kernels ceiling".split()
    assert [line.partition(":")[0] for line in lines] == names
    assert all(line.endswith(")") for line in lines) and "numbers ffffffffffff" in lines[2]
    assert not (lab / "runs").exists()
    assert [line.partition(":")[0] for line in sources.splitlines()] == ["from default", "from preset"]
    assert "matrix_lr=0.04" in sources.splitlines()[0] and "n_layer=2" in sources.splitlines()[1]


def test_print_config_as_json_is_complete(lab: Path, capsys):
    asked = ("--preset", "upstream", "--smoke", "--seed", "7", "--set", "depth=3")
    assert call(lab, "--print-config", "--json", *asked) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["config"]["model"]["n_layer"] == 3
    assert data["config"]["preset"] == "upstream" and data["config"]["seed"] == 7 and data["config"]["steps"] == 2
    assert {"engine", "hardware", "choices", "dataset", "kernels", "ceiling"} <= set(data)
    assert all(choice["why"] for choice in data["choices"]) and data["hardware"]["kind"] == "cpu"
    fields = {*data["config"], *data["config"]["model"]} - {"model"}
    assert data["sources"].keys() == fields
    from_options = {name for name, source in data["sources"].items() if source == "option"}
    smoke = {"steps", "time_budget", "batch_size", "total_batch_tokens", "eval_tokens", "eval_batch_size"}
    assert from_options == {"preset", "seed", "n_layer"} | smoke


def test_the_hardware_chooses_the_preset(lab: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    big = hardware.Hardware("cpu", "Big", 256, 64, ("amx_bf16",))
    monkeypatch.setattr(training, "detect", lambda engine: big)
    assert call(lab, "--print-config") == 0
    assert "cpu-tiny  (64 cores with amx_bf16)" in capsys.readouterr().out


def test_a_run_prints_its_summary_and_appends_its_line(lab: Path, capsys):
    assert call(lab, *SMALL, "--steps", "2", "--description", "first try") == 0
    out = capsys.readouterr().out
    assert sum(line.startswith("val_bpb:") for line in out.splitlines()) == 1 and "\x1b" not in out
    record = json.loads((lab / "runs" / "last" / "run.json").read_text())
    assert record["choices"][0]["name"] == "engine" and record["ceiling"] is None
    assert record["description"] == "first try"
    header, row = (line.split("\t") for line in (lab / "runs" / "results.tsv").read_text().splitlines())
    assert header == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert row[1] == f"{record['summary']['val_bpb']:.6f}" and row[3:] == ["done", "first try"]
    assert not (lab / "runs" / "last" / "checkpoint").exists()


def test_an_earlier_run_is_kept_beside_the_last(lab: Path, capsys):
    runs = lab / "runs"
    for _ in range(2):  # within one second, perhaps
        assert call(lab, *SMALL, "--steps", "1") == 0
    assert call(lab, *SMALL, "--steps", "2", "--checkpoint") == 0
    finished = {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/run.json")}
    assert len(finished) == 3 and finished["last"]["summary"]["num_steps"] == 2
    assert [path.parent.name for path in newest(Root(lab), 5)][-1] == "last"
    # One that only tries is none of those that are compared.
    assert call(lab, "--preset", "cpu-nano", "--smoke", "--kernels", "baseline") == 0
    assert (runs / "smoke" / "run.json").is_file() and len(newest(Root(lab), 5)) == 3


def test_a_finished_run_whose_checkpoint_is_resumed_is_kept(lab: Path, capsys):
    runs = lab / "runs"
    assert call(lab, *SMALL, "--steps", "2", "--checkpoint") == 0
    assert call(lab, "--resume", str(runs / "last"), "--steps", "3") == 0  # a run's folder stands for its checkpoint
    (kept,) = [path.parent for path in runs.glob("2*/run.json")]
    assert f"note: what the run before left is in {kept}" in capsys.readouterr().err
    steps = {path.parent: json.loads(path.read_text())["summary"]["num_steps"] for path in runs.glob("*/run.json")}
    assert steps == {kept: 2, runs / "last": 3}
    assert call(lab, "--resume", str(kept), "--steps", "2") == 2
    assert "the checkpoint is at step 2 already" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_where_it_is(lab: Path, capsys):
    runs = lab / "runs"
    assert call(lab, *SMALL, "--steps", "2", "--checkpoint") == 0
    record = json.loads((runs / "last" / "run.json").read_text())
    (runs / "last" / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    checkpoint = str(runs / "last" / "checkpoint")
    assert call(lab, "--resume", checkpoint, "--steps", "3") == 0
    choices = json.loads((runs / "last" / "run.json").read_text())["choices"]
    assert {"name": "preset", "value": "cpu-nano", "why": f"as in {checkpoint}"} in choices
    assert [path.parent.name for path in runs.glob("*/run.json")] == ["last"]


def test_json_leaves_stdout_to_the_record(lab: Path, capsys):
    assert call(lab, *SMALL, "--steps", "1", "--json", "--save-weights") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["status"] == "complete" and "val_bpb:" in captured.err
    weights = lab / "runs" / "last" / "weights.safetensors"
    assert call(lab, "--preset", "cpu-nano", "--kernels", "baseline", "--eval-rungs", str(weights)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["rung", "cheap", "reference", "full", "val_bpb:"]
    assert lines[3].split()[3] == "+0.000000"


def test_a_smoke_run_is_no_row_among_those_that_are_compared(lab: Path, capsys):
    smoke = ("--preset", "cpu-nano", "--smoke", "--kernels", "baseline")
    assert call(lab, *smoke) == 0
    assert not (lab / "runs" / "results.tsv").exists()
    assert call(lab, *smoke, "--results", str(lab / "asked.tsv")) == 0
    assert len((lab / "asked.tsv").read_text().splitlines()) == 2


def test_a_model_without_val_bpb_is_a_crash_and_not_nan(lab: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("autoresearch_trainer.evaluate.bits_per_byte", lambda nats, size: float("nan"))
    assert call(lab, *SMALL, "--steps", "1", "--json") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: val_bpb of the model after 1 steps")
    told = json.loads(captured.out)
    assert told == json.loads((lab / "runs" / "last" / "run.json").read_text())
    assert told["status"] == "failed" and f"error: {told['error']}" == captured.err.splitlines()[-1]
    row = (lab / "runs" / "results.tsv").read_text().splitlines()[-1].split("\t")
    assert row[1:4] == ["0.000000", "0.0", "crash"]


def test_a_run_that_does_not_begin_is_told_as_json_too(lab: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    (lab / "runs" / "last").mkdir(parents=True)
    (lab / "runs" / "last" / "run.json").write_text('{"status": "complete", "summary": {}}')  # of an earlier run

    def run(*args: object, **kwargs: object) -> None:
        raise KernelError("no such kernel")

    monkeypatch.setattr("autoresearch_lab.cli.train.run", run)
    assert call(lab, *SMALL, "--steps", "1", "--json") == 2
    assert json.loads(capsys.readouterr().out) == {"status": "failed", "error": "no such kernel"}


def test_a_kernel_that_declines_ends_the_run_in_one_line(lab: Path, capsys):
    target = lab / "kernels" / "relu_squared"
    shutil.rmtree(lab / "kernels")
    shutil.copytree(CHECKOUT / "kernels", lab / "kernels")
    (target / "torch_library.py").write_text("def relu_squared(x):\n    raise NotImplementedError('not here')\n")
    assert call(lab, *SMALL[:-1], "relu_squared=torch_library", "--steps", "1") == 1
    assert capsys.readouterr().err.splitlines() == ["error: kernel relu_squared=torch_library declined: not here"]


def test_a_kernel_that_is_wrong_in_training_ends_a_checked_run_in_one_line(lab: Path, capsys):
    target = lab / "kernels" / "relu_squared"
    shutil.rmtree(lab / "kernels")
    shutil.copytree(CHECKOUT / "kernels", lab / "kernels")
    (target / "torch_library.py").write_text("def relu_squared(x):\n    return x.clamp_min(0).square() * 1.02\n")
    wrong = [*SMALL[:-1], "relu_squared=torch_library", "--steps", "2", "--check-kernels", "100%"]
    assert call(lab, *wrong) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: kernel relu_squared=torch_library is wrong in training: call 1 of it, in step 1: ")


def test_a_run_that_was_interrupted_can_go_on(lab: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    stop = True

    def on_step(self, event: dict) -> None:
        if stop and event["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Console, "_on_step", on_step)
    assert call(lab, *SMALL, "--steps", "3") == 143
    folder = lab / "runs" / "last" / "checkpoint"
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"error: interrupted by SIGTERM after 2 steps; continue with --resume {folder}"
    stop = False
    assert call(lab, "--resume", str(folder), "--kernels", "baseline", "--out", str(lab / "b")) == 0
    record = json.loads((lab / "b" / "run.json").read_text())
    assert record["resumed_at"] == 2 and len(record["losses"]) == 3
    statuses = [line.split("\t")[3] for line in (lab / "runs" / "results.tsv").read_text().splitlines()[1:]]
    assert statuses == ["interrupted", "done"]


def test_the_measured_ceiling_of_this_device_is_used(lab: Path, capsys):
    describe = importlib.import_module("autoresearch_cuda.probe.describe")
    device = describe.describe("cpu")
    ledger = Ledger(Root(lab).ledger)
    for rate, key in ((100.0, device_key(device)), (300.0, device_key(device)), (900.0, "cpu-another")):
        results = {"matmul_gflop_s": {"bfloat16": rate}}
        shown = {"kind": "cpu", "key": key}
        ledger.append("note", engine="cpu", device=shown, settings={"event": "ceilings"}, results=results)
    assert call(lab, "--print-config", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ceiling"]["flops"] == data["config"]["peak_flops"] == 300e9
    assert data["ceiling"]["record"] == ledger.records()[1].id
    Root(lab).ledger.write_text("{}\n{}\n")
    assert call(lab, "--print-config") == 0  # a broken ledger is no reason not to train


def test_training_does_not_wait_until_a_large_ledger_is_read(lab: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    Ledger(Root(lab).ledger).append("note", settings={"event": "failed", "step": "ab"}, results={"reason": "none"})
    monkeypatch.setattr("autoresearch_lab.ledger_index.HURRIED_BYTES", 10)
    assert call(lab, "--print-config", "--json") == 0
    (ceiling,) = (one for one in json.loads(capsys.readouterr().out)["choices"] if one["name"] == "ceiling")
    assert ceiling["value"] == "unknown" and "has no index of what is in it" in ceiling["why"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "unknown preset 'huge'; known: cpu-nano"),
        (["--engine", "tpu"], "unknown engine 'tpu'; known: auto, cpu, cuda, mlx"),
        (["--compile", "maybe"], "unknown compile mode 'maybe'; known: auto, on, off"),
        (["--eval", "huge"], "unknown evaluation 'huge'; known: cheap, reference, full"),
        (["--eval", "cheap", "--eval-tokens", "5000"], "give --eval or --eval-tokens, not both"),
        (["--steps", "3", "--time-budget", "3"], "give --time-budget or --steps, not both"),
        (["--steps", "0"], "'--steps': 0 is not in the range x>=1"),
        (["--steps", "x"], "not a valid integer"),
        (["--time-budget", "-1"], "time_budget must be positive"),
        (["--time-budget", "0"], "time_budget must be positive"),
        (["--time-budget", "inf"], "time_budget must be positive and finite"),
        (["--seed", "99999999999999999999999"], "seed must be from 0 to 9223372036854775807"),
        (["--seed", "-1"], "seed must be from 0 to"),
        (["--batch-size", "3"], "not a multiple of the 768 tokens"),
        (["--batch-size", "0"], "'--batch-size': 0 is not in the range x>=1"),
        (["--checkpoint-every", "often", "--steps", "1"], "cannot read the interval 'often'"),
        (["--check-kernels", "0%", "--steps", "1"], "'0%' is no share of calls"),
        (["--check-kernels", "many", "--steps", "1"], "'many' is no share of calls"),
        (["--resume", "/nowhere"], "no usable checkpoint in /nowhere: there is no such folder"),
        (["--resume", ""], "Invalid value for '--resume': it is empty"),
        (["--kernels", ""], "empty selection"),
        (["--resume", "/nowhere", "--set", "depth=3"], "give --set or --resume, not both"),
        (["--set", "depth"], "depth takes an integer, not ''"),
        (["--eval-rungs", "/nowhere"], "cannot read weights from /nowhere"),
        (["--kernels", "rope=none"], "rope"),
        (["--out", "/proc/nowhere", "--steps", "1"], "cannot write in /proc/nowhere"),
        (["--results", str(CHECKOUT / "train.py"), "--steps", "1"], "is not a table of runs"),
        (["--no-checkpoint", "--checkpoint-every", "3"], "not both"),
        (["--no-such-option"], "No such option"),
        (["argument"], "unexpected extra argument"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(lab: Path, arguments: list[str], message: str, capsys):
    assert call(lab, *arguments) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and captured.err.startswith("error: ") and message in captured.err
    assert captured.out == ""


def test_a_promoted_kernel_that_is_no_longer_that_is_told_and_refused_by_name(lab: Path, capsys):
    root = Root(lab)
    shutil.rmtree(root.kernels)
    shutil.copytree(CHECKOUT / "kernels", root.kernels, ignore=shutil.ignore_patterns("promoted*.toml"))
    entry = {"engine": "cpu", "device": machine.context(ENGINES["cpu"], root).device["key"], "target": "rope"}
    root.promoted_local.write_text(registry.text([Promotion(**entry, kernel="cpp_fused", sha256="0" * 64)]))
    assert call(lab, "--print-config") == 0
    shown = capsys.readouterr()
    assert "kernels:    baseline  (what is promoted here; rope: promoted kernel cpp_fused was changed" in shown.out
    assert "note: rope: promoted kernel cpp_fused was changed" in shown.err
    for words in ("promoted", "promoted,rms_norm=torch_eager"):
        assert call(lab, "--print-config", "--kernels", words) == 2
        said = capsys.readouterr().err
        assert f"error: --kernels {words}: rope: promoted kernel cpp_fused was changed" in said
        assert "using the baseline" not in said
    assert call(lab, "--print-config", "--kernels", "promoted,rope=torch_eager") == 0


def test_without_data_the_message_names_the_command(lab: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    from autoresearch_data.dataset import open_dataset

    monkeypatch.setattr(training, "open_dataset", open_dataset)
    (lab / "data" / "stdlib" / "dataset.json").unlink()
    assert call(lab) == 2
    error = capsys.readouterr().err
    assert "no dataset in" in error and "python prepare.py --corpus stdlib" in error
    for name in ("a", "b"):
        (lab / "data" / name).mkdir()
        (lab / "data" / name / "dataset.json").write_text("{}")
    assert call(lab) == 2
    assert "name one of a, b with --dataset" in capsys.readouterr().err


def test_mps_is_refused_in_a_line_where_it_is_missing(lab: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "has_apple_gpu", lambda: False)
    assert main(["--root", str(lab), "--engine", "mps"]) == 2
    assert capsys.readouterr().err == "error: engine mps cannot run here: there is no Apple GPU\n"
    monkeypatch.setattr(engine, "has_apple_gpu", lambda: True)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert main(["--root", str(lab), "--engine", "mps"]) == 2
    assert "error: PyTorch reaches no MPS device" in capsys.readouterr().err
    assert app.main(["--engine", "mps", "doctor"]) == 2  # the lab measures nothing there
    assert "mps" in capsys.readouterr().err


def test_mps_trains_the_baseline_uncompiled(lab: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    """As far as the plan; the lab's ledger is not asked, since it has no such engine."""
    measured(lab, 1500.0, 2000.0)
    monkeypatch.setattr(engine, "has_apple_gpu", lambda: True)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.mps.recommended_max_memory", lambda: 12 << 30)
    monkeypatch.setattr("torch.mps.driver_allocated_memory", lambda: 1 << 30)
    asked = ("--engine", "mps", "--preset", "cpu-nano", "--print-config", "--json")
    assert main(["--root", str(lab), *asked]) == 0
    data = json.loads(capsys.readouterr().out)
    said = {choice["name"]: (choice["value"], choice["why"]) for choice in data["choices"]}
    assert said["engine"][0] == "mps" and said["compile"] == ("off", "MPS: uncompiled")
    assert said["kernels"][0] == "baseline" and "torch_eager" in {one["name"] for one in data["kernels"].values()}
    assert main(["--root", str(lab), *asked, "--compile", "on"]) == 2
    assert "--compile on: training on MPS is uncompiled" in capsys.readouterr().err


def test_engines_carry_the_preset_of_their_hardware():
    from autoresearch_lab.engine import choose

    assert choose("cpu").default_preset == hardware.suggest_preset(hardware.detect("cpu"))[0]
    assert choose("cpu").package == ENGINES["cpu"].package


def measured(lab: Path, eager: float, compiled: float, preset: str = "cpu-nano", **changes) -> None:
    """The record of an A/B whose other arm were the baseline kernels, measured in both modes."""
    engine = ENGINES["cpu"]
    context = machine.context_of_this_process(engine)
    selection = resolve("baseline", load_catalog(Root(lab)), engine, Root(lab))
    used = "compiled" if compiled > eager else "eager"
    modes = {"baseline": {"used": used, "reason": "the faster of the two", "eager": eager, "compiled": compiled}}
    Ledger(Root(lab).ledger).append(
        "ab",
        **{**context.fields(), **changes},
        settings={"preset": preset, "compile": "auto", "baseline": selection.recorded()},
        results={"modes": modes},
        verdict="REJECT",
    )


@pytest.mark.parametrize(("eager", "compiled", "chosen"), [(2000.0, 1500.0, "off"), (1500.0, 2000.0, "on")])
def test_auto_takes_the_mode_that_was_measured_as_faster(lab: Path, capsys, eager, compiled, chosen):
    measured(lab, eager, compiled)
    assert call(lab, "--print-config", "--preset", "cpu-nano") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("compile:"))
    said = f"measured with these kernels: {eager:,.0f} tokens/s eager, {compiled:,.0f} compiled, record "
    assert line.split()[1] == chosen and said in line


def fitted(lab: Path, verdict: str = "BETTER", preset: str = "cpu-nano", **changes) -> None:
    """The record of a fit that has found a deeper shape."""
    shape = f"{preset}-d3-t1024"
    Ledger(Root(lab).ledger).append(
        "fit",
        **{**machine.context_of_this_process(ENGINES["cpu"]).fields(), **changes},
        settings={"preset": preset, "dataset": {"name": "x"}, "minutes": 20.0, "horizon": 300.0, "seed": 42,
                  "foreign_limit": 0.15},
        results={"reason": "", "recommended": shape, "delta": -0.05, "lower": shape, "upper": shape, "zone": 0.02,
                 "longer_seconds": 2400.0, "exponent": 0.2, "pair_seconds": 45, "predicted_seconds": 1.0,
                 "seconds": 1.0},
        verdict=verdict,
    )  # fmt: skip


def test_a_shape_that_was_fitted_here_is_the_default_and_said_to_be(lab: Path, capsys, monkeypatch):
    monkeypatch.setattr(training, "suggest_preset", lambda hardware: ("cpu-nano", "2 cores"))
    for stale in ({"verdict": "WORSE"}, {"preset": "m5-tiny"}, {"software": {"key": "another"}}):
        fitted(lab, **stale)
        assert call(lab, "--print-config") == 0
        assert "preset:     cpu-nano  (2 cores)" in capsys.readouterr().out
    fitted(lab)
    assert call(lab, "--print-config", "--set", "matrix_lr=0.03") == 0
    out = capsys.readouterr().out
    assert "preset:     cpu-nano-d3-t1024  (fitted to this machine, record " in out
    assert "-0.0500 against cpu-nano in 45 s; --preset cpu-nano takes that)" in out and "4 x 256 tokens, 1024" in out
    (line,) = [line for line in out.splitlines() if line.startswith("from fitted:")]
    assert line.split()[2:] == ["preset=cpu-nano-d3-t1024", "batch_size=4", "total_batch_tokens=1024", "n_layer=3"]
    assert "from option:     matrix_lr=0.03" in out
    assert call(lab, "--print-config", "--preset", "cpu-nano") == 0
    assert "from fitted" not in capsys.readouterr().out
    assert call(lab, *SMALL[2:], "--steps", "1") == 0
    config = json.loads((lab / "runs" / "last" / "run.json").read_text())["config"]
    assert config["preset"] == "cpu-nano-d3-t1024" and config["eval_batch_size"] == 8


def test_auto_keeps_its_rule_where_nothing_fits_what_was_measured(lab: Path, capsys):
    measured(lab, 2000.0, 1500.0, preset="cpu-tiny")
    measured(lab, 2000.0, 1500.0, software={"key": "another"})
    asked = [(), ("--kernels", "softcap_cross_entropy=torch_library"), ("--compile", "on")]
    for words in asked:
        assert call(lab, "--print-config", "--preset", "cpu-nano", *words) == 0
        assert "measured with" not in capsys.readouterr().out
    measured(lab, 2000.0, 1500.0)
    assert call(lab, "--print-config", "--preset", "cpu-nano", "--steps", "3") == 0
    assert "too few steps" in capsys.readouterr().out


def test_the_summary_says_why_a_run_was_compiled(lab: Path, capsys):
    assert call(lab, *SMALL, "--steps", "1") == 0
    assert "compiled:         no (asked for)" in capsys.readouterr().out
