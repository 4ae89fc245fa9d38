"""Job `gputrace`: some steps of the trainer, recorded by Metal for Xcode.

Metal records only in a process that was started with MTL_CAPTURE_ENABLED=1; the lab sets it.
"""

import os
from pathlib import Path
from typing import Any

import mlx.core as mx

from autoresearch_data.dataset import open_dataset
from autoresearch_mlx.memory import on_gpu
from autoresearch_mlx.ops import Ops
from autoresearch_mlx.probe import Report
from autoresearch_mlx.process import prepare_process
from autoresearch_mlx.train import Trainer
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.errors import ConfigError

WARMUP_STEPS = 5
RUN_STEPS = 1_000_000  # schedules stand at their start


def run(args: dict[str, Any], run_dir: Path, report: Report) -> dict[str, Any]:
    """Train `preset` on the dataset in `dataset_dir` with the kernels of `selection`, and record `steps` steps into the
    folder `output` (*.gputrace, which must not exist).

    Returns {"dataset", "selection", "steps", "tokens_per_step"}.
    Raises:
        ConfigError: no Metal, no MTL_CAPTURE_ENABLED, or an output that exists.
        RuntimeError: Metal wrote no trace.
    """
    if not on_gpu():
        raise ConfigError("there is no Metal here: MLX computes on the CPU")
    if os.environ.get("MTL_CAPTURE_ENABLED") != "1":
        raise ConfigError("Metal records nothing without MTL_CAPTURE_ENABLED=1 in the environment of the process")
    output = Path(args["output"])
    if output.exists():
        raise ConfigError(f"{output} exists already")
    config = TrainConfig.for_preset(args["preset"], steps=RUN_STEPS, seed=args.get("seed", 42))
    dataset = open_dataset(Path(args["dataset_dir"]))
    prepare_process()
    trainer = Trainer(config, Ops.load(args.get("selection") or {}), dataset)
    for number in range(WARMUP_STEPS):
        report({"stage": "warm-up", "done": number, "total": WARMUP_STEPS})
        trainer.step()
    report({"stage": "capture"})
    mx.metal.start_capture(str(output))
    try:
        tokens = [trainer.step().tokens for _ in range(args["steps"])]
    finally:
        mx.metal.stop_capture()
    if not output.exists():
        raise RuntimeError(f"Metal wrote no trace to {output}")
    return {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "selection": {t: {"name": k.name, "sha256": k.sha256} for t, k in trainer.ops.kernels.items()},
        "steps": args["steps"],
        "tokens_per_step": tokens[0],
    }
