"""A whole run: its events, run.json, the summary block, interruption and failure."""

import json
import os
import re
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_cuda import engine
from autoresearch_cuda.train import Trainer
from autoresearch_trainer import summary as summary_module
from autoresearch_trainer.console import Console
from autoresearch_trainer.errors import ConfigError, Interrupted, KernelError, KernelFailed, OutOfMemory, TrainingFailed
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.loop import run
from autoresearch_trainer.process import process_seconds
from autoresearch_trainer.summary import datasheet_flops, summary_lines

UPSTREAM_BLOCK = r"""---
val_bpb:          \d+\.\d{6}
training_seconds: \d+\.\d
total_seconds:    \d+\.\d
peak_vram_mb:     \d+\.\d
mfu_percent:      \d+\.\d\d
total_tokens_M:   \d+\.\d
num_steps:        14
num_params_M:     \d+\.\d
depth:            3
tokens_per_second:\d+
"""


def test_a_run_writes_what_it_did(config, dataset, tmp_path: Path):
    events = []
    record = run(engine, replace(config, peak_flops=1e12), None, dataset, tmp_path / "out", events.append, weights=True)
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == record
    assert record["status"] == "complete" and record["dataset"] == {"name": "counting", "fingerprint": "f" * 64}
    assert len(record["losses"]) == len(record["step_seconds"]) == 14
    assert record["summary"]["timed_steps"] == 3
    assert record["summary"]["tokens_per_second"] == pytest.approx(3 * 128 / sum(record["step_seconds"][11:]))
    assert 0 < record["summary"]["mfu_percent"] < 100
    assert record["kernels"]["softcap_cross_entropy"]["calls"] == 14 * 2 + 4
    assert record["kernels"]["rope"]["name"] == "torch_eager"
    assert [e["event"] for e in events if e["event"] != "step"] == ["start", *["evaluate"] * 4, "summary"]
    assert re.match(UPSTREAM_BLOCK, "\n".join(events[-1]["lines"]) + "\n")
    assert (tmp_path / "out" / "weights.safetensors").exists()
    again = run(engine, config, None, dataset, tmp_path / "again")
    assert again["losses"] == record["losses"] and again["evaluation"] == record["evaluation"]


def test_the_console_prints_plain_lines_into_a_pipe(config, dataset, tmp_path: Path, capsys):
    with Console() as console:
        run(engine, config.smoke(), None, dataset, tmp_path, console)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("test: 0.1M parameters") or "M parameters" in lines[0]
    assert sum(line.startswith("val_bpb:") for line in lines) == 1
    assert any(line.startswith("kernel:           rms_norm=torch_eager") for line in lines)
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_between_steps_and_it_can_go_on(config, dataset, tmp_path: Path, number: int):
    def interrupt(event: dict) -> None:
        if event["event"] == "step" and event["step"] == 5:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"interrupted by {signal.Signals(number).name} after 5 steps") as caught:
        run(engine, config, None, dataset, tmp_path / "a", interrupt, checkpoint=True)
    assert caught.value.exit_code == 128 + number and signal.getsignal(number) is handler
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert record["status"] == "interrupted" and len(record["losses"]) == 5 and record["summary"]["val_bpb"] is None

    resumed = run(engine, config, None, dataset, tmp_path / "b", resume=tmp_path / "a" / "checkpoint")
    straight = run(engine, config, None, dataset, tmp_path / "c")
    assert resumed["losses"] == straight["losses"] and resumed["evaluation"] == straight["evaluation"]


def test_an_interrupted_run_saves_itself_and_says_where(config, dataset, tmp_path: Path):
    def interrupt(event: dict) -> None:
        if event["event"] == "step" and event["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=f"after 3 steps; continue with --resume {tmp_path}/checkpoint"):
        run(engine, config, None, dataset, tmp_path, interrupt, save_interrupted=True)
    assert "--resume" in json.loads((tmp_path / "run.json").read_text())["error"]
    resumed = run(engine, config, None, dataset, tmp_path / "b", resume=tmp_path / "checkpoint", save_interrupted=True)
    assert resumed["resumed_at"] == 3 and not (tmp_path / "b" / "checkpoint").exists()
    with pytest.raises(Interrupted, match="after 3 steps; nothing was saved$"):
        run(engine, config, None, dataset, tmp_path / "c", interrupt)
    assert not (tmp_path / "c" / "checkpoint").exists()


def test_a_signal_during_the_start_is_not_lost(config, dataset, tmp_path: Path):
    def interrupt(event: dict) -> None:
        if event["event"] == "start":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="interrupted by SIGTERM after 0 steps; nothing was saved$") as caught:
        run(engine, config, None, dataset, tmp_path, interrupt, save_interrupted=True)
    assert caught.value.exit_code == 143


def test_running_out_of_memory_is_one_line_with_the_batch_that_fits(config, dataset, tmp_path: Path):
    text = "import torch\ndef relu_squared(x):\n    raise torch.OutOfMemoryError('CUDA out of memory. Tried to')\n"
    (tmp_path / "kernel.py").write_text(text)
    kernel = {"relu_squared": KernelFile.at("relu_squared", tmp_path / "kernel.py")}
    with pytest.raises(OutOfMemory, match="out of memory with a batch of 2 .*--batch-size 1 should fit") as caught:
        run(engine, config, kernel, dataset, tmp_path / "out")
    assert caught.value.exit_code == 1
    assert json.loads((tmp_path / "out" / "run.json").read_text())["error"] == str(caught.value)


def test_both_utilisations_are_stated_and_an_unknown_one_is_called_so(config, dataset, tmp_path, monkeypatch):
    record = run(engine, config, None, dataset, tmp_path / "a")
    summary, lines = record["summary"], "\n".join(summary_lines(record))
    assert summary["mfu_percent"] is summary["mfu_measured_percent"] is summary["mfu_datasheet_percent"] is None
    assert "mfu_percent:      0.00" in lines and "mfu_measured:     unknown" in lines
    monkeypatch.setattr(summary_module, "datasheet_flops", lambda name, dtype: 4e12)
    record = run(engine, replace(config, peak_flops=1e12), None, dataset, tmp_path / "b")
    summary, lines = record["summary"], "\n".join(summary_lines(record))
    assert summary["mfu_measured_percent"] == pytest.approx(4 * summary["mfu_datasheet_percent"])
    assert summary["mfu_percent"] == summary["mfu_datasheet_percent"]
    assert "% of 1.000 TFLOP/s measured here" in lines and "% of 4.000 TFLOP/s stated" in lines


def test_datasheet_rates_are_of_exactly_named_chips():
    assert datasheet_flops("NVIDIA H200") == datasheet_flops("NVIDIA H100 80GB HBM3") == 989.5e12
    assert datasheet_flops("NVIDIA H200 NVL") is datasheet_flops("AMD EPYC") is None
    assert datasheet_flops("NVIDIA H200", "float32") is None


def test_the_record_says_when_the_first_step_was_done_and_where_attention_ran(config, dataset, tmp_path: Path):
    record = run(engine, config.smoke(), None, dataset, tmp_path, choices=[{"name": "x", "value": "y", "why": "z"}])
    assert 0 < record["startup_seconds"] < record["seconds_to_first_step"] <= process_seconds()
    assert "softmax" in record["attention"] and record["choices"][0]["why"] == "z"


def test_the_record_of_an_earlier_run_does_not_pass_for_one_that_was_killed(config, dataset, tmp_path: Path):
    (tmp_path / "run.json").write_text('{"status": "complete"}')
    seen = []

    def looks(event) -> None:
        seen.append((event["event"], (tmp_path / "run.json").exists()))

    run(engine, config.smoke(), None, dataset, tmp_path, looks)
    assert seen[0] == ("start", False) and seen[-1] == ("summary", True)


def test_a_failed_run_leaves_its_record(config, dataset, tmp_path: Path):
    (tmp_path / "kernel.py").write_text("def relu_squared(x):\n    return x * float('nan')\n")
    with pytest.raises(TrainingFailed, match="loss is nan at step 0"):
        kernel = {"relu_squared": KernelFile.at("relu_squared", tmp_path / "kernel.py")}
        run(engine, config, kernel, dataset, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "failed" and "loss is nan" in record["error"]


RAISES = "def relu_squared(x):\n    return x.no_such_thing\n"
DECLINES = "def relu_squared(x):\n    raise NotImplementedError('rows of 7 only')\n"
LEAVES = "import sys\ndef relu_squared(x):\n    sys.exit(0)\n"
ENDS_THE_PROCESS = "import os\ndef relu_squared(x):\n    os._exit(0)\n"
RETURNS_ANOTHER_SHAPE = "def relu_squared(x):\n    return x[..., :-1]\n"
FAILING_BACKWARD = """import torch
class Broken(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.relu().square()
    @staticmethod
    def backward(ctx, grad):
        raise ValueError('no gradient\\nand more')
relu_squared = Broken.apply
"""


def kernel_at(path: Path, text: str) -> dict[str, KernelFile]:
    path.write_text(text)
    return {"relu_squared": KernelFile.at("relu_squared", path)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RAISES, "^kernel relu_squared=mine failed: AttributeError: 'Tensor' object has no attribute 'no_such_thing'$"),
        (DECLINES, "^kernel relu_squared=mine declined: rows of 7 only$"),
        (FAILING_BACKWARD, "^kernel relu_squared=mine failed: ValueError: no gradient$"),
        (LEAVES, "^kernel relu_squared=mine failed: SystemExit: 0$"),
        (ENDS_THE_PROCESS, "^kernel relu_squared=mine failed: SystemExit: 0$"),
        (ENDS_THE_PROCESS.replace("os", "posix"), "^kernel relu_squared=mine failed: SystemExit: 0$"),
        (LEAVES.replace("sys.exit(0)", "raise GeneratorExit"), "^kernel relu_squared=mine failed: GeneratorExit$"),
        (LEAVES.replace("sys.exit(0)", "return None"), "^kernel relu_squared=mine returned y as NoneType, not "),
        (RETURNS_ANOTHER_SHAPE, r"^kernel relu_squared=mine returned y as \[2, 32, \d+\] bfloat16, not "),
    ],
    ids=[
        *("raises", "declines", "backward", "leaves", "ends the process", "by its other name", "as a generator"),
        *("nothing", "shape"),
    ],
)
def test_a_kernel_that_fails_is_named_in_one_line(config, dataset, tmp_path: Path, text: str, message: str):
    with pytest.raises(KernelFailed, match=message) as caught:
        run(engine, config, kernel_at(tmp_path / "mine.py", text), dataset, tmp_path / "out")
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "failed" and record["error"] == str(caught.value)
    assert record["traceback"][0].startswith("Traceback") and "in step" in "".join(record["traceback"])


def test_a_kernel_that_leaves_while_it_is_loaded_is_no_kernel(config, dataset, tmp_path: Path):
    with pytest.raises(KernelError, match="relu_squared=mine does not load: SystemExit: 0"):
        run(engine, config, kernel_at(tmp_path / "mine.py", "raise SystemExit(0)\n"), dataset, tmp_path / "out")


def test_a_kernel_that_declines_while_it_is_traced_is_named_too(config, dataset, tmp_path: Path):
    with pytest.raises(KernelFailed, match="kernel relu_squared=mine ") as caught:
        run(engine, replace(config, compile=True), kernel_at(tmp_path / "mine.py", DECLINES), dataset, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "rows of 7 only" in "".join(json.loads((tmp_path / "out" / "run.json").read_text())["traceback"])


def test_of_two_selected_kernels_the_inner_one_is_named(config, dataset, tmp_path: Path):
    (tmp_path / "outer.py").write_text(
        "import torch.nn.functional as F\nfrom autoresearch_cuda.kernel_files import part\n"
        "relu_squared = part('relu_squared')\n"
        "def mlp(x, w_fc, w_proj):\n"
        "    return F.linear(relu_squared(F.linear(x, w_fc.to(x.dtype))), w_proj.to(x.dtype))\n"
    )
    selection = {"mlp": KernelFile.at("mlp", tmp_path / "outer.py"), **kernel_at(tmp_path / "mine.py", DECLINES)}
    for compiled in (False, True):
        with pytest.raises(KernelFailed, match="^kernel relu_squared=mine "):
            run(engine, replace(config, compile=compiled), selection, dataset, tmp_path / "out")


def test_what_baseline_kernels_run_into_is_not_laid_at_a_kernel(config, dataset, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Trainer, "step", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(engine, config, None, dataset, tmp_path / "out")


def test_a_model_that_the_last_step_broke_is_no_result(config, dataset, tmp_path: Path, monkeypatch):
    step = Trainer.step

    def breaking(self):
        result = step(self)
        if self.finished:
            next(self.model.parameters()).data.fill_(float("nan"))
        return result

    monkeypatch.setattr(Trainer, "step", breaking)
    with pytest.raises(TrainingFailed, match="val_bpb of the model after 14 steps is nan"):
        run(engine, config, None, dataset, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "run.json").read_text(), parse_constant=pytest.fail)
    assert record["status"] == "failed" and record["summary"]["val_bpb"] is None and "is nan" in record["error"]


@pytest.fixture
def small_disk():
    """Files end after 100,000 bytes: enough for run.json, too little for the weights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("what", "name"), [({"weights": True}, "weights.safetensors"), ({"checkpoint": True}, "checkpoint")]
)
def test_a_full_disk_is_one_line_with_the_file(config, dataset, tmp_path: Path, small_disk, what: dict, name: str):
    with pytest.raises(ConfigError, match=f"cannot write {tmp_path / name}: ") as caught:
        run(engine, config, None, dataset, tmp_path, **what)
    assert caught.value.exit_code == 2
    assert json.loads((tmp_path / "run.json").read_text())["error"] == str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_that_cannot_be_written_is_refused_before_training(config, dataset, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write in"):
        run(engine, config, None, dataset, tmp_path / "file" / "out")
