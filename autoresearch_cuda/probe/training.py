"""Jobs `train` and `evaluate`: paired fixed-token trainings, and their validation loss by another process.

The process that trains with a candidate never computes the val_bpb that counts: it leaves weights, and `evaluate` reads
them with the baseline kernels.
"""

from pathlib import Path
from typing import Any

import torch

from autoresearch_cuda.checkpoint import load_model, save_weights
from autoresearch_cuda.config import TrainConfig
from autoresearch_cuda.errors import ConfigError, TrainingFailed
from autoresearch_cuda.evaluate import evaluate_bpb
from autoresearch_cuda.ops import Ops
from autoresearch_cuda.probe import Report, environment
from autoresearch_cuda.process import QuietCollector, prepare_process
from autoresearch_cuda.rungs import full_tokens, limited
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import Dataset, open_dataset
from autoresearch_data.hashing import file_sha256

PROGRESS_STEPS = 10


def train(args: dict[str, Any], run_dir: Path, report: Report) -> dict[str, Any]:
    """Train each of `runs` from scratch with one selection of kernels, one after the other.

    args: "device", "selection" {target: kernel}, "preset", "dataset" {"folder", "fingerprint"}, "compile" (default no),
        "runs": [{"id", "seed", "steps", "stop": how many of them to execute (default all), "one_ulp": bool,
        "save": bool}].
    Reports {"run": result} after each, so that a killed job loses only the one it was in. A result is {"id", "losses":
    nats per token of every step, "seconds", "tokens", "weights": file name in run_dir or null, "sha256", "failed": why
    the loss left the sane range, or null}.
    Each result also has "environment": what changed in the process since before the kernels were loaded.
    Returns {"runs": [...], "process": the process's settings}.
    """
    process = prepare_process()
    dataset = open_checked(args["dataset"])
    before = environment.snapshot()
    ops = Ops.load(args["selection"])
    results = []
    with QuietCollector() as collector:
        for run in args["runs"]:
            result = _train_once(run, args, ops, dataset, run_dir, report, collector)
            results.append({**result, "environment": environment.changes(before, environment.snapshot())})
            report({"run": results[-1]})
    return {"runs": results, "process": process}


def _train_once(
    run: dict[str, Any], args: dict[str, Any], ops: Ops, dataset: Dataset, run_dir: Path, report: Report,
    collector: QuietCollector,
) -> dict[str, Any]:  # fmt: skip
    compiled = bool(args.get("compile"))
    config = TrainConfig.for_preset(args["preset"], steps=run["steps"], seed=run["seed"], compile=compiled)
    trainer = Trainer(config, ops, dataset, args.get("device", "cpu"))
    if run.get("one_ulp"):
        move_one_ulp(trainer.model, run["seed"])
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
        save_weights(trainer.model, run_dir / weights)
    return {
        "id": run["id"],
        "losses": losses,
        "seconds": seconds,
        "tokens": len(losses) * config.total_batch_tokens,
        "weights": weights,
        "sha256": file_sha256(run_dir / weights) if weights else None,
        "failed": failed,
    }


def evaluate(args: dict[str, Any], run_dir: Path, report: Report) -> dict[str, Any]:
    """Bits per byte of saved weights with the kernels of `selection` (the caller passes the baseline's).

    The rows are spread over the validation split, as in a training run's own evaluation.

    args: "device", "selection", "preset", "dataset", "eval_tokens" (null = the preset's),
        "weights": [{"id", "path", "sha256"}]. Reports {"evaluation": {"id", "val_bpb", "nats", "bytes", "tokens"}}
    after each; a loss that is not finite gives nulls.
    Raises:
        ConfigError: weights that are not the ones that were saved.
    """
    prepare_process()
    dataset = open_checked(args["dataset"])
    ops = Ops.load(args["selection"])
    config = TrainConfig.for_preset(args["preset"])
    length, batch = config.model.sequence_len, config.batch_size
    spread_over = full_tokens(dataset, length, batch * length)
    tokens = limited(args.get("eval_tokens") or config.eval_tokens, spread_over, batch * length)
    results = []
    for number, weights in enumerate(args["weights"]):
        report({"stage": "evaluating", "done": number, "total": len(args["weights"])})
        if file_sha256(weights["path"]) != weights["sha256"]:
            raise ConfigError(f"{weights['path']} is not what the training process saved")
        model = load_model(Path(weights["path"]), ops, args.get("device", "cpu"))
        if model.config != config.model:
            raise ConfigError(f"{weights['path']} holds another model than preset {args['preset']}")
        result = evaluate_bpb(model, dataset, batch, length, tokens, spread_over=spread_over).to_json()
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


@torch.no_grad()
def move_one_ulp(model: torch.nn.Module, seed: int) -> None:
    """Move every float32 parameter element to a neighbouring float32, up or down at random.

    The smallest disturbance there is: what it grows into, any other rounding may grow into. The tables held in bfloat16
    stay: a unit in their last place is 65,536 times as large, and on some seeds the first steps amplify it tenfold.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dtype == torch.float32:
            up = torch.randint(0, 2, parameter.shape, generator=generator, dtype=torch.bool).to(parameter.device)
            parameter.copy_(torch.nextafter(parameter, torch.where(up, torch.inf, -torch.inf)))
