"""Jobs `train` and `evaluate`: paired fixed-token trainings, and their validation loss by another process.

The process that trains with a candidate never computes the val_bpb that counts: it leaves weights, and `evaluate` reads
them with the baseline kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256
from autoresearch_data.dataset import Dataset, open_dataset
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.engine import TrainerEngine
from autoresearch_trainer.errors import ConfigError, TrainingFailed
from autoresearch_trainer.evaluate import evaluate_bpb
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.base import DatasetRef, facts
from autoresearch_trainer.jobs.training import (
    ComparedArgs,
    EvaluateAnswer,
    EvaluateArgs,
    Evaluation,
    TrainAnswer,
    TrainArgs,
    TrainingResult,
    TrainingRun,
)
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.state import Snapshot, changes
from autoresearch_trainer.process import QuietCollector
from autoresearch_trainer.rungs import full_tokens, limited

PROGRESS_STEPS = 10


@dataclass(frozen=True)
class Probe:
    """What these jobs ask of an engine beside a TrainerEngine: the state that no kernel may change, the smallest
    disturbance of a model's parameters, drawn from a seed, and a kernel computed with less rounding, with results in
    the dtypes that it gives otherwise."""

    snapshot: Snapshot
    move_one_ulp: Callable[[Any, int], None]
    widened: Callable[[Kernel], Kernel]


def train(engine: TrainerEngine, probe: Probe, args: TrainArgs, run_dir: Path, report: Report) -> TrainAnswer:
    """Train each of `runs` from scratch with one selection of kernels, one after the other.

    Reports {"run": result} after each, so that a killed job loses only the one it was in.
    """
    process = engine.prepare_process()
    dataset = open_checked(args.dataset)
    load_first(engine, args)
    before = probe.snapshot()

    def wrap(target: str, kernel: Kernel) -> Kernel:
        return probe.widened(kernel) if target in args.widened else kernel

    ops = engine.Ops.load(args.selection, wrap)
    results = []
    with QuietCollector() as collector:
        for run in args.runs:
            trained = _Training(engine, probe, args, run).execute(ops, dataset, run_dir, report, collector)
            results.append(TrainingResult(**trained, environment=changes(before, probe.snapshot())))
            report({"run": results[-1].model_dump()})
    return TrainAnswer(runs=results, process=facts(process), compile_cache=engine.compile_cache())


def in_float32(
    kernel: Kernel, is_half: Callable[[object], bool], cast: Callable[[Any, Any], Any], float32: object
) -> Kernel:
    """The kernel on float32 copies of its half-precision arguments; its results in the dtypes that it gives else.

    cast(array, dtype): the array in that type; float32: the engine's.
    """

    def wide(*arguments: Any) -> Any:
        if not any(map(is_half, arguments)):
            return kernel(*arguments)  # an optimizer's, which works in place, takes place once
        usual = kernel(*arguments)
        found = kernel(*[cast(value, float32) if is_half(value) else value for value in arguments])
        if isinstance(found, tuple):
            return tuple(cast(one, other.dtype) for one, other in zip(found, usual, strict=True))
        return cast(found, usual.dtype)

    return wide


@dataclass(frozen=True)
class _Training:
    """One training of a job."""

    engine: TrainerEngine
    probe: Probe
    args: TrainArgs
    run: TrainingRun

    def execute(
        self, ops: Any, dataset: Dataset, run_dir: Path, report: Report, collector: QuietCollector
    ) -> dict[str, Any]:
        """The fields of a `TrainingResult` but for its environment."""
        args, run, engine = self.args, self.run, self.engine
        config = TrainConfig.for_preset(args.preset, steps=run.steps, seed=run.seed, compile=args.compile)
        trainer = engine.Trainer(config, ops, dataset, args.device)
        if run.one_ulp:
            self.probe.move_one_ulp(trainer.model, run.seed)
        losses: list[float] = []
        seconds, failed = 0.0, None
        stop = run.stop or run.steps
        try:
            while len(losses) < stop:
                result = trainer.step()
                losses.append(result.loss)
                seconds += result.seconds
                collector.after_step(len(losses) - 1)
                if len(losses) % PROGRESS_STEPS == 0:
                    report({"stage": "training", "id": run.id, "done": len(losses), "total": stop})
        except TrainingFailed as error:
            failed = str(error)
        weights = f"{run.id}.safetensors" if run.save and failed is None else None
        if weights:
            engine.save_weights(trainer.model, run_dir / weights)
        return {
            "id": run.id,
            "losses": losses,
            "seconds": seconds,
            "tokens": len(losses) * config.total_batch_tokens,
            "peak_memory_mb": engine.peak_memory_mb(args.device),
            "weights": weights,
            "sha256": file_sha256(run_dir / weights) if weights else None,
            "failed": failed,
        }


def evaluate(engine: TrainerEngine, args: EvaluateArgs, run_dir: Path, report: Report) -> EvaluateAnswer:
    """Bits per byte of saved weights with the kernels of `selection` (the caller passes the baseline's).

    The rows are spread over the validation split, as in a training run's own evaluation. Reports {"evaluation": result}
    after each.

    Raises:
        ConfigError: weights that are not the ones that were saved.
    """
    engine.prepare_process()
    dataset = open_checked(args.dataset)
    ops = engine.Ops.load(args.selection)
    config = TrainConfig.for_preset(args.preset)
    length, batch = config.model.sequence_len, config.eval_batch_size or config.batch_size
    spread_over = full_tokens(dataset, length, batch * length)
    tokens = limited(args.eval_tokens or config.eval_tokens, spread_over, batch * length)
    results = []
    for number, weights in enumerate(args.weights):
        report({"stage": "evaluating", "done": number, "total": len(args.weights)})
        if file_sha256(Path(weights.path)) != weights.sha256:
            raise ConfigError(f"{weights.path} is not what the training process saved")
        model = engine.load_model(Path(weights.path), ops, args.device)
        if model.config != config.model:
            raise ConfigError(f"{weights.path} holds another model than preset {args.preset}")
        losses = engine.BatchLosses(model, batch)
        result = evaluate_bpb(losses, dataset, batch, length, tokens, spread_over=spread_over).to_json()
        finite = result["nats"] < float("inf")
        results.append(Evaluation(id=weights.id, **(result if finite else dict.fromkeys(result))))
        report({"evaluation": results[-1].model_dump()})
    return EvaluateAnswer(evaluations=results)


def load_first(engine: TrainerEngine, args: ComparedArgs) -> None:
    """Load the kernels of `after`, which are not used."""
    if args.after is not None:
        engine.Ops.load(args.after)


def open_checked(described: DatasetRef) -> Dataset:
    """The dataset in that folder. Raises ConfigError where its fingerprint is another one by now."""
    dataset = open_dataset(Path(described.folder))
    if dataset.fingerprint != described.fingerprint:
        raise ConfigError(f"the dataset in {described.folder} changed (its fingerprint differs)")
    return dataset
