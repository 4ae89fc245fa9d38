"""`run`: a whole training run, from the selection of kernels to run.json."""

import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from autoresearch_data.dataset import Dataset
from autoresearch_data.errors import DataError
from autoresearch_data.folders import make_folder
from autoresearch_trainer.blame import naming_kernels
from autoresearch_trainer.checkpoint import Extra
from autoresearch_trainer.checks import Checks
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.engine import TrainerEngine
from autoresearch_trainer.errors import ConfigError, EngineError, Interrupted, KernelFailed
from autoresearch_trainer.evaluate import EvalResult, evaluate_bpb
from autoresearch_trainer.kernel_files import Kernel, KernelFile
from autoresearch_trainer.memory import evaluation_rows, explained
from autoresearch_trainer.ops import Selection
from autoresearch_trainer.process import QuietCollector, StopSignal, process_seconds, stop_signal
from autoresearch_trainer.record import (
    CeilingRecord,
    ChoiceRecord,
    Event,
    RunRecord,
    Steps,
    finite,
    write_json,
    written,
)
from autoresearch_trainer.sampling import Sampler
from autoresearch_trainer.saver import BackgroundSaver, Interval
from autoresearch_trainer.summary import kernel_calls, summarise, summary_lines

SCHEMA = 1
RUN_FILE, WEIGHTS_FILE, CHECKPOINT_FOLDER = "run.json", "weights.safetensors", "checkpoint"
LOSS_SMOOTHING = 0.9

Report = Callable[[Event], None]


def run(
    engine: TrainerEngine,
    config: TrainConfig,
    selection: Selection | None,
    dataset: Dataset,
    out_dir: Path,
    report: Report | None = None,
    *,
    device: str = "cpu",
    weights: bool = False,
    checkpoint: bool = False,
    save_interrupted: bool = False,
    checkpoint_every: Interval | None = None,
    resume: Path | None = None,
    choices: list[ChoiceRecord] | None = None,
    ceiling: CeilingRecord | None = None,
    check_rate: float | None = None,
    description: str = "",
) -> RunRecord:
    """Train with this engine, evaluate, write `out_dir`/run.json; returns what that file holds.

    selection: {target: KernelFile or its JSON form}; targets left out get their baseline kernel.
    report: receives plain-data events, see `record.Event`.
    weights: also write weights.safetensors. checkpoint: also write checkpoint/ at the end or when interrupted;
    save_interrupted: only when interrupted; checkpoint_every: also during training.
    resume: a checkpoint folder to continue from.
    check_rate: the share of the calls of selected kernels that the baseline computes as well, 0 to 1; None = no checks.
    choices: what was decided before the run, ceiling: where config.peak_flops comes from, and description: what the run
    tries; all three go into the record.

    Raises ConfigError and KernelError for bad input and a full disk, KernelFailed for a kernel that fails in training,
    KernelWrong for one that a check finds wrong, TrainingFailed for a diverged loss, OutOfMemory, Interrupted for
    SIGINT or SIGTERM; run.json is written in the latter five cases as well, with its status, and with the traceback of
    a kernel.
    """
    run_ = _Run(engine, device, config, dataset, Path(out_dir), report or (lambda event: None))
    with stop_signal() as stop:
        run_.start(selection, resume, choices or [], ceiling, check_rate, description)
        return run_.finish(stop, weights, checkpoint, save_interrupted, checkpoint_every)


class _Run:
    def __init__(
        self, engine: TrainerEngine, device: str, config: TrainConfig, dataset: Dataset, out_dir: Path, report: Report
    ) -> None:
        self.engine, self.device = engine, device
        self.config, self.dataset, self.out_dir, self.report = config, dataset, out_dir, report
        self.started, self.started_at = time.perf_counter(), datetime.now(UTC)
        self.steps: Steps = {"losses": [], "step_seconds": []}
        self.checkpoint_folder = out_dir / CHECKPOINT_FOLDER
        self.saver: BackgroundSaver | None = None
        self.checks: Checks | None = None

    def _wrap(self, target: str, kernel: Kernel) -> Kernel:
        looked_at = self.forms.wrap(target, kernel)
        return self.counter(target, self.checks.wrap(target, looked_at) if self.checks else looked_at)

    def start(
        self,
        selection: Selection | None,
        resume: Path | None,
        choices: list[ChoiceRecord],
        ceiling: CeilingRecord | None,
        check_rate: float | None,
        description: str,
    ) -> None:
        try:
            make_folder(self.out_dir)
        except DataError as error:
            raise ConfigError(str(error)) from error
        engine, device = self.engine, self.device
        process = engine.prepare_process()
        self.counter = engine.CallCounter()
        # Before any kernel is loaded: what it does then is seen, too.
        if check_rate is not None:
            files = {target: KernelFile.of(file) for target, file in (selection or {}).items()}
            self.checks = engine.checks(files, Sampler(check_rate), device)
        self.forms = engine.Forms(selection or {}, device)
        ops = engine.Ops.load(selection, wrap=self._wrap)
        with self._explained():
            self.trainer = engine.Trainer(self.config, ops, self.dataset, device)
        if resume:
            self.steps = engine.load_checkpoint(self.trainer, resume)["steps"]
        trainer = self.trainer
        kernel = ops.kernels["windowed_attention"].name
        self.record: RunRecord = {
            "schema": SCHEMA,
            "status": "failed",
            "started": self.started_at.isoformat(timespec="seconds"),
            "description": description,
            "config": self.config.to_json(),
            "model": trainer.model.describe(),
            "device": engine.describe_device(device),
            "software": engine.describe_software(),
            "process": process,
            "dataset": {"name": self.dataset.name, "fingerprint": self.dataset.fingerprint},
            "attention": engine.describe_attention(device, self.config.compute_dtype, kernel)[0],
            "resumed_at": trainer.steps_done if resume else None,
            "startup_seconds": time.perf_counter() - self.started,
            "seconds_to_first_step": None,
            "choices": choices,
            "ceiling": ceiling,
        }
        # What an earlier run left here would pass for this one's, were this one killed.
        (self.out_dir / RUN_FILE).unlink(missing_ok=True)
        parameters = self.record["model"]["parameters"]["total"]
        self.report({"event": "start", "parameters": parameters, "record": self.record})

    def finish(
        self, stop: StopSignal, weights: bool, checkpoint: bool, save_interrupted: bool, every: Interval | None
    ) -> RunRecord:
        trainer, record = self.trainer, self.record
        evaluation: EvalResult | None = None
        try:
            self._train(stop, every)
            if self.checks:
                self.checks.end()
            if checkpoint:
                self._save_checkpoint()
            trainer.drop_gradients()
            evaluation = self._evaluate(stop)
            if self.checks:
                self.checks.end()  # the evaluation's calls were checked as well
            if weights:
                with written(self.out_dir / WEIGHTS_FILE):
                    self.engine.save_weights(trainer.model, self.out_dir / WEIGHTS_FILE)
            record["status"] = "complete"
        except Interrupted as error:
            record["status"] = "interrupted"
            remark = "; nothing was saved"
            if (checkpoint or save_interrupted) and trainer.steps_done:
                self._save_checkpoint()
                remark = f"; continue with --resume {self.checkpoint_folder}"
            error = Interrupted(error.signum, error.step, remark)
            record["error"] = str(error)
            raise error from None
        except EngineError as error:
            record["error"] = str(error)
            if isinstance(error, KernelFailed):
                record["traceback"] = traceback.format_exception(error.__cause__ or error)
            raise
        finally:
            val_bpb = evaluation.val_bpb if evaluation else None
            memory = self.engine.peak_memory_mb(self.device)
            seconds = time.perf_counter() - self.started
            record["summary"] = summarise(
                trainer, self.steps["step_seconds"], val_bpb, seconds, memory, record["device"]["name"]
            )
            record["compile_cache"] = self.engine.compile_cache()
            record["evaluation"] = evaluation.to_json() if evaluation else None
            if self.saver:
                record["checkpoints"] = asdict(self.saver.costs)
            if self.checks:
                record["checked"] = self.checks.record()
            record["kernels"] = kernel_calls(trainer.ops, self.counter)
            record |= {"losses": self.steps["losses"], "step_seconds": self.steps["step_seconds"]}
            self.record = record = finite(record)
            write_json(self.out_dir / RUN_FILE, record)
        self.report({"event": "summary", "lines": summary_lines(record), "record": record})
        return record

    def _save_checkpoint(self) -> None:
        with written(self.checkpoint_folder):
            snapshot = self.engine.take_snapshot(self.trainer, self._extra(), None)
            self.engine.write_snapshot(snapshot, self.checkpoint_folder)

    def _extra(self) -> Extra:
        """Copies, because training goes on while they are written."""
        return {"steps": Steps(losses=[*self.steps["losses"]], step_seconds=[*self.steps["step_seconds"]])}

    def _train(self, stop: StopSignal, every: Interval | None) -> None:
        trainer, steps, smoothed, index = self.trainer, self.steps, 0.0, 0
        with ExitStack() as stack:
            collector = stack.enter_context(QuietCollector())
            if every:
                saver = BackgroundSaver(self.engine, self.checkpoint_folder, every, trainer.steps_done)
                self.saver = stack.enter_context(saver)
            if self.checks:
                self.checks.begin(trainer)
            while not trainer.finished:
                stop.raise_if_set(trainer.steps_done)
                with (
                    naming_kernels(trainer.ops),
                    self._explained(),
                    self.forms.told(),
                    self.checks.step() if self.checks else nullcontext(),
                ):
                    result = trainer.step()
                if index == 0:
                    self.record["seconds_to_first_step"] = process_seconds()
                collector.after_step(index)
                steps["losses"].append(result.loss)
                steps["step_seconds"].append(result.seconds)
                if self.saver:
                    with self._explained():
                        self.saver.after_step(trainer, self._extra)
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

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.engine, self.config, self.device)

    def _evaluate(self, stop: StopSignal) -> EvalResult:
        config, trainer = self.config, self.trainer

        def on_batch(done: int, total: int) -> None:
            stop.raise_if_set(trainer.steps_done)
            self.report({"event": "evaluate", "done": done, "total": total})

        batch, length = config.eval_batch_size or config.batch_size, config.model.sequence_len
        rows = evaluation_rows(config, self.device)
        with naming_kernels(trainer.ops), self._explained(), self.forms.told():
            tokens, over = config.eval_tokens, config.eval_spread_over
            losses = self.engine.BatchLosses(trainer.model, min(rows, batch))
            result = evaluate_bpb(losses, trainer.dataset, batch, length, tokens, on_batch, over)
        return result.checked(f"the model after {trainer.steps_done} steps")
