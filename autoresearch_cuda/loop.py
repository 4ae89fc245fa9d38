"""`run`: a whole training run, from the selection of kernels to run.json."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoresearch_cuda.checkpoint import load_checkpoint, save_checkpoint, save_weights
from autoresearch_cuda.config import TrainConfig
from autoresearch_cuda.errors import ConfigError, EngineError, Interrupted
from autoresearch_cuda.evaluate import evaluate_bpb
from autoresearch_cuda.ops import CallCounter, Ops, Selection
from autoresearch_cuda.process import (
    QuietCollector,
    StopSignal,
    describe_device,
    describe_software,
    peak_memory_mb,
    prepare_process,
    stop_signal,
)
from autoresearch_cuda.summary import kernel_calls, summarise, summary_lines
from autoresearch_cuda.train import Trainer
from autoresearch_data.errors import DataError
from autoresearch_data.folders import make_folder, replacing_file

SCHEMA = 1
RUN_FILE, WEIGHTS_FILE, CHECKPOINT_FOLDER = "run.json", "weights.safetensors", "checkpoint"
LOSS_SMOOTHING = 0.9

Report = Callable[[dict[str, Any]], None]


def run(
    config: TrainConfig,
    selection: Selection | None,
    dataset: Any,
    out_dir: Path,
    report: Report | None = None,
    *,
    device: str = "cpu",
    weights: bool = False,
    checkpoint: bool = False,
    resume: Path | None = None,
) -> dict[str, Any]:
    """Train, evaluate, write `out_dir`/run.json; returns what that file holds.

    selection: {target: KernelFile or its JSON form}; targets left out get their baseline kernel.
    report: receives plain-data events: "start", "step", "evaluate", "summary".
    weights: also write weights.safetensors. checkpoint: also write checkpoint/ at the end or when interrupted.
    resume: a checkpoint folder to continue from.

    Raises ConfigError and KernelError for bad input, TrainingFailed for a diverged loss, Interrupted for SIGINT or
    SIGTERM; run.json is written in the latter two cases as well, with its status.
    """
    started, started_at = time.perf_counter(), datetime.now(UTC)
    report = report or (lambda event: None)
    out_dir = Path(out_dir)
    try:
        make_folder(out_dir)
    except DataError as error:
        raise ConfigError(str(error)) from error
    process = prepare_process()
    counter = CallCounter()
    ops = Ops.load(selection, wrap=counter)
    trainer = Trainer(config, ops, dataset, device)
    steps: dict[str, list[float]] = {"losses": [], "step_seconds": []}
    if resume:
        steps = load_checkpoint(trainer, resume)["steps"]
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "status": "failed",
        "started": started_at.isoformat(timespec="seconds"),
        "config": config.to_json(),
        "model": trainer.model.describe(),
        "device": describe_device(trainer.device),
        "software": describe_software(),
        "process": process,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "startup_seconds": time.perf_counter() - started,
    }
    report({"event": "start", "parameters": record["model"]["parameters"]["total"], "record": record})
    evaluation = None
    try:
        with stop_signal() as stop:
            _train(trainer, steps, stop, report)
            if checkpoint:
                save_checkpoint(trainer, out_dir / CHECKPOINT_FOLDER, {"steps": steps})
            trainer.optimizer.zero_grad()
            evaluation = _evaluate(trainer, stop, report)
            if weights:
                save_weights(trainer.model, out_dir / WEIGHTS_FILE)
        record["status"] = "complete"
    except Interrupted as error:
        record["status"], record["error"] = "interrupted", str(error)
        if checkpoint:
            save_checkpoint(trainer, out_dir / CHECKPOINT_FOLDER, {"steps": steps})
        raise
    except EngineError as error:
        record["error"] = str(error)
        raise
    finally:
        val_bpb = evaluation.val_bpb if evaluation else None
        memory = peak_memory_mb(trainer.device)
        record["summary"] = summarise(trainer, steps["step_seconds"], val_bpb, time.perf_counter() - started, memory)
        record["evaluation"] = evaluation.to_json() if evaluation else None
        record["kernels"] = kernel_calls(ops, counter)
        record |= steps
        _write_json(out_dir / RUN_FILE, record)
    report({"event": "summary", "lines": summary_lines(record), "record": record})
    return record


def _train(trainer: Trainer, steps: dict[str, list[float]], stop: StopSignal, report: Report) -> None:
    smoothed = 0.0
    with QuietCollector() as collector:
        for index in range(10**12):
            if trainer.finished:
                return
            stop.raise_if_set(trainer.steps_done)
            result = trainer.step()
            collector.after_step(index)
            steps["losses"].append(result.loss)
            steps["step_seconds"].append(result.seconds)
            smoothed = LOSS_SMOOTHING * smoothed + (1 - LOSS_SMOOTHING) * result.loss
            report(
                {
                    "event": "step",
                    "step": trainer.steps_done,
                    "progress": trainer.progress,
                    "loss": result.loss,
                    # A moving average that starts at 0 is corrected for it.
                    "smoothed_loss": smoothed / (1 - LOSS_SMOOTHING ** (index + 1)),
                    "seconds": result.seconds,
                    "tokens_per_second": result.tokens / result.seconds,
                    "training_seconds": trainer.training_seconds,
                }
            )


def _evaluate(trainer: Trainer, stop: StopSignal, report: Report) -> Any:
    config = trainer.config

    def on_batch(done: int, total: int) -> None:
        stop.raise_if_set(trainer.steps_done)
        report({"event": "evaluate", "done": done, "total": total})

    length, tokens = config.model.sequence_len, config.eval_tokens
    return evaluate_bpb(trainer.model, trainer.dataset, config.batch_size, length, tokens, on_batch)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
