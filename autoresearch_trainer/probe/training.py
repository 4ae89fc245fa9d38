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
from autoresearch_trainer.probe import Report
from autoresearch_trainer.probe.state import Snapshot, changes
from autoresearch_trainer.process import QuietCollector
from autoresearch_trainer.rungs import full_tokens, limited

PROGRESS_STEPS = 10


@dataclass(frozen=True)
class Probe:
    """What these jobs ask of an engine beside a TrainerEngine: the state that no kernel may change, and the smallest
    disturbance of a model's parameters, drawn from a seed."""

    snapshot: Snapshot
    move_one_ulp: Callable[[Any, int], None]


def train(engine: TrainerEngine, probe: Probe, args: dict[str, Any], run_dir: Path, report: Report) -> dict[str, Any]:
    """Train each of `runs` from scratch with one selection of kernels, one after the other.

    args: "device", "selection" {target: kernel}, "preset", "dataset" {"folder", "fingerprint"}, "compile" (default no),
        "runs": [{"id", "seed", "steps", "stop": how many of them to execute (default all), "one_ulp": bool,
        "save": bool}].
    Reports {"run": result} after each, so that a killed job loses only the one it was in. A result is {"id", "losses":
    nats per token of every step, "seconds", "tokens", "peak_memory_mb": the most that the process has used so far in
    MiB, "weights": file name in run_dir or null, "sha256", "failed": why the loss left the sane range, or null}.
    Each result also has "environment": what changed in the process since before the kernels were loaded.
    Returns {"runs": [...], "process": the process's settings}.
    """
    process = engine.prepare_process()
    dataset = open_checked(args["dataset"])
    before = probe.snapshot()
    ops = engine.Ops.load(args["selection"])
    results = []
    with QuietCollector() as collector:
        for run in args["runs"]:
            result = _train_once(engine, probe, run, args, ops, dataset, run_dir, report, collector)
            results.append({**result, "environment": changes(before, probe.snapshot())})
            report({"run": results[-1]})
    return {"runs": results, "process": process}


def _train_once(
    engine: TrainerEngine,
    probe: Probe,
    run: dict[str, Any],
    args: dict[str, Any],
    ops: Any,
    dataset: Dataset,
    run_dir: Path,
    report: Report,
    collector: QuietCollector,
) -> dict[str, Any]:
    compiled = bool(args.get("compile"))
    config = TrainConfig.for_preset(args["preset"], steps=run["steps"], seed=run["seed"], compile=compiled)
    device = args.get("device", "cpu")
    trainer = engine.Trainer(config, ops, dataset, device)
    if run.get("one_ulp"):
        probe.move_one_ulp(trainer.model, run["seed"])
    losses: list[float] = []
    seconds, failed = 0.0, None
    stop = run.get("stop") or run["steps"]
    try:
        while len(losses) < stop:
            result = trainer.step()
            losses.append(result.loss)
            seconds += result.seconds
            collector.after_step(len(losses) - 1)
            if len(losses) % PROGRESS_STEPS == 0:
                report({"stage": "training", "id": run["id"], "done": len(losses), "total": stop})
    except TrainingFailed as error:
        failed = str(error)
    weights = f"{run['id']}.safetensors" if run.get("save") and failed is None else None
    if weights:
        engine.save_weights(trainer.model, run_dir / weights)
    return {
        "id": run["id"],
        "losses": losses,
        "seconds": seconds,
        "tokens": len(losses) * config.total_batch_tokens,
        "peak_memory_mb": engine.peak_memory_mb(device),
        "weights": weights,
        "sha256": file_sha256(run_dir / weights) if weights else None,
        "failed": failed,
    }


def evaluate(engine: TrainerEngine, args: dict[str, Any], run_dir: Path, report: Report) -> dict[str, Any]:
    """Bits per byte of saved weights with the kernels of `selection` (the caller passes the baseline's).

    The rows are spread over the validation split, as in a training run's own evaluation.

    args: "device", "selection", "preset", "dataset", "eval_tokens" (null = the preset's),
        "weights": [{"id", "path", "sha256"}]. Reports {"evaluation": {"id", "val_bpb", "nats", "bytes", "tokens"}}
    after each; a loss that is not finite gives nulls.
    Raises:
        ConfigError: weights that are not the ones that were saved.
    """
    engine.prepare_process()
    dataset = open_checked(args["dataset"])
    ops = engine.Ops.load(args["selection"])
    config = TrainConfig.for_preset(args["preset"])
    length, batch = config.model.sequence_len, config.batch_size
    spread_over = full_tokens(dataset, length, batch * length)
    tokens = limited(args.get("eval_tokens") or config.eval_tokens, spread_over, batch * length)
    results = []
    for number, weights in enumerate(args["weights"]):
        report({"stage": "evaluating", "done": number, "total": len(args["weights"])})
        if file_sha256(weights["path"]) != weights["sha256"]:
            raise ConfigError(f"{weights['path']} is not what the training process saved")
        model = engine.load_model(Path(weights["path"]), ops, args.get("device", "cpu"))
        if model.config != config.model:
            raise ConfigError(f"{weights['path']} holds another model than preset {args['preset']}")
        losses = engine.BatchLosses(model, batch)
        result = evaluate_bpb(losses, dataset, batch, length, tokens, spread_over=spread_over).to_json()
        finite = result["nats"] < float("inf")
        results.append({"id": weights["id"], **(result if finite else dict.fromkeys(result))})
        report({"evaluation": results[-1]})
    return {"evaluations": results}


def open_checked(described: dict[str, str]) -> Dataset:
    """The dataset in described["folder"]. Raises ConfigError where its fingerprint is another one by now."""
    dataset = open_dataset(Path(described["folder"]))
    if dataset.fingerprint != described["fingerprint"]:
        raise ConfigError(f"the dataset in {described['folder']} changed (its fingerprint differs)")
    return dataset
