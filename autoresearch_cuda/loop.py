"""`run`: a whole training run, from the selection of kernels to run.json."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoresearch_cuda import attention
from autoresearch_cuda.checkpoint import load_checkpoint, save_checkpoint, save_weights
from autoresearch_cuda.config import TrainConfig
from autoresearch_cuda.errors import ConfigError, EngineError, Interrupted
from autoresearch_cuda.evaluate import EvalResult, evaluate_bpb
from autoresearch_cuda.memory import evaluation_rows, explained
from autoresearch_cuda.ops import CallCounter, Ops, Selection
from autoresearch_cuda.process import (
    QuietCollector,
    StopSignal,
    describe_device,
    describe_software,
    peak_memory_mb,
    prepare_process,
    process_seconds,
    stop_signal,
)
from autoresearch_cuda.saver import BackgroundSaver, Interval
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
    save_interrupted: bool = False,
    checkpoint_every: Interval | None = None,
    resume: Path | None = None,
    choices: list[dict[str, str]] | None = None,
    ceiling: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, evaluate, write `out_dir`/run.json; returns what that file holds.

    selection: {target: KernelFile or its JSON form}; targets left out get their baseline kernel.
    report: receives plain-data events: "start", "step", "evaluate", "summary".
    weights: also write weights.safetensors. checkpoint: also write checkpoint/ at the end or when interrupted;
    save_interrupted: only when interrupted; checkpoint_every: also during training.
    resume: a checkpoint folder to continue from.
    choices: what was decided before the run, and ceiling: where config.peak_flops comes from; both go into the record.

    Raises ConfigError and KernelError for bad input, TrainingFailed for a diverged loss, OutOfMemory, Interrupted for
    SIGINT or SIGTERM; run.json is written in the latter three cases as well, with its status.
    """
    run_ = _Run(config, dataset, Path(out_dir), report or (lambda event: None))
    with stop_signal() as stop:
        run_.start(selection, device, resume, {"choices": choices or [], "ceiling": ceiling})
        return run_.finish(stop, weights, checkpoint, save_interrupted, checkpoint_every)


class _Run:
    def __init__(self, config: TrainConfig, dataset: Any, out_dir: Path, report: Report) -> None:
        self.config, self.dataset, self.out_dir, self.report = config, dataset, out_dir, report
        self.started, self.started_at = time.perf_counter(), datetime.now(UTC)
        self.steps: dict[str, list[float]] = {"losses": [], "step_seconds": []}
        self.checkpoint_folder = out_dir / CHECKPOINT_FOLDER
        self.record: dict[str, Any] = {}

    def start(self, selection: Selection | None, device: str, resume: Path | None, extra: dict[str, Any]) -> None:
        try:
            make_folder(self.out_dir)
        except DataError as error:
            raise ConfigError(str(error)) from error
        process = prepare_process()
        self.counter = CallCounter()
        ops = Ops.load(selection, wrap=self.counter)
        with explained(self.config, device):
            self.trainer = Trainer(self.config, ops, self.dataset, device)
        if resume:
            self.steps = load_checkpoint(self.trainer, resume)["steps"]
        trainer = self.trainer
        kernel = ops.kernels["windowed_attention"].name
        self.record = {
            "schema": SCHEMA,
            "status": "failed",
            "started": self.started_at.isoformat(timespec="seconds"),
            "config": self.config.to_json(),
            "model": trainer.model.describe(),
            "device": describe_device(trainer.device),
            "software": describe_software(),
            "process": process,
            "dataset": {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint},
            "attention": attention.describe(trainer.device.type, trainer.model.compute_dtype, kernel),
            "resumed_at": trainer.steps_done if resume else None,
            "startup_seconds": time.perf_counter() - self.started,
            "seconds_to_first_step": None,
            **extra,
        }
        parameters = self.record["model"]["parameters"]["total"]
        self.report({"event": "start", "parameters": parameters, "record": self.record})

    def finish(
        self, stop: StopSignal, weights: bool, checkpoint: bool, save_interrupted: bool, every: Interval | None
    ) -> dict[str, Any]:
        trainer, record = self.trainer, self.record
        evaluation: EvalResult | None = None
        try:
            self._train(stop, every)
            if checkpoint:
                save_checkpoint(trainer, self.checkpoint_folder, self._extra())
            trainer.optimizer.zero_grad()
            evaluation = self._evaluate(stop)
            if weights:
                save_weights(trainer.model, self.out_dir / WEIGHTS_FILE)
            record["status"] = "complete"
        except Interrupted as error:
            record["status"] = "interrupted"
            if (checkpoint or save_interrupted) and trainer.steps_done:
                save_checkpoint(trainer, self.checkpoint_folder, self._extra())
                error = Interrupted(error.signum, error.step, f"; continue with --resume {self.checkpoint_folder}")
            record["error"] = str(error)
            raise error from None
        except EngineError as error:
            record["error"] = str(error)
            raise
        finally:
            val_bpb = evaluation.val_bpb if evaluation else None
            memory = peak_memory_mb(trainer.device)
            seconds = time.perf_counter() - self.started
            record["summary"] = summarise(trainer, self.steps["step_seconds"], val_bpb, seconds, memory)
            record["evaluation"] = evaluation.to_json() if evaluation else None
            if "checkpoints" in record:
                record["checkpoints"] = asdict(record["checkpoints"])
            record["kernels"] = kernel_calls(trainer.ops, self.counter)
            record |= self.steps
            _write_json(self.out_dir / RUN_FILE, record)
        self.report({"event": "summary", "lines": summary_lines(record), "record": record})
        return record

    def _extra(self) -> dict[str, Any]:
        return {"steps": {name: list(values) for name, values in self.steps.items()}}

    def _train(self, stop: StopSignal, every: Interval | None) -> None:
        trainer, steps, smoothed, index = self.trainer, self.steps, 0.0, 0
        with ExitStack() as stack:
            collector = stack.enter_context(QuietCollector())
            saver = None
            if every:
                saver = stack.enter_context(BackgroundSaver(self.checkpoint_folder, every, trainer.steps_done))
                self.record["checkpoints"] = saver.costs
            stack.enter_context(explained(self.config, trainer.device.type))
            while not trainer.finished:
                stop.raise_if_set(trainer.steps_done)
                result = trainer.step()
                if index == 0:
                    self.record["seconds_to_first_step"] = process_seconds()
                collector.after_step(index)
                steps["losses"].append(result.loss)
                steps["step_seconds"].append(result.seconds)
                if saver:
                    saver.after_step(trainer, self._extra)
                smoothed = LOSS_SMOOTHING * smoothed + (1 - LOSS_SMOOTHING) * result.loss
                index += 1
                self.report(
                    {
                        "event": "step",
                        "step": trainer.steps_done,
                        "progress": trainer.progress,
                        "loss": result.loss,
                        # A moving average that starts at 0 is corrected for it.
                        "smoothed_loss": smoothed / (1 - LOSS_SMOOTHING**index),
                        "seconds": result.seconds,
                        "tokens_per_second": result.tokens / result.seconds,
                        "training_seconds": trainer.training_seconds,
                    }
                )

    def _evaluate(self, stop: StopSignal) -> EvalResult:
        config, trainer = self.config, self.trainer

        def on_batch(done: int, total: int) -> None:
            stop.raise_if_set(trainer.steps_done)
            self.report({"event": "evaluate", "done": done, "total": total})

        batch, length = config.eval_batch_size or config.batch_size, config.model.sequence_len
        rows = evaluation_rows(config, trainer.device.type)
        with explained(config, trainer.device.type):
            tokens, over = config.eval_tokens, config.eval_spread_over
            return evaluate_bpb(trainer.model, trainer.dataset, batch, length, tokens, on_batch, rows, over)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
