"""Job `gputrace`: some steps of the trainer, recorded by Metal for Xcode.

Metal records only in a process that was started with MTL_CAPTURE_ENABLED=1; the lab sets it.
"""

import os
from pathlib import Path

import mlx.core as mx

from autoresearch_data.dataset import open_dataset
from autoresearch_mlx.kernel_files import Ops
from autoresearch_mlx.memory import on_gpu
from autoresearch_mlx.probe import Report
from autoresearch_mlx.process import prepare_process
from autoresearch_mlx.train import Trainer
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.tracing import GputraceAnswer, GputraceArgs
from autoresearch_trainer.probe.steps import RUN_STEPS
from autoresearch_trainer.probe.words import trained

WARMUP_STEPS = 5


def run(args: GputraceArgs, run_dir: Path, report: Report) -> GputraceAnswer:
    """Train, and record `steps` steps into the folder `output`.

    Raises:
        ConfigError: no Metal, no MTL_CAPTURE_ENABLED, or an output that exists.
        RuntimeError: Metal wrote no trace.
    """
    if not on_gpu():
        raise ConfigError("there is no Metal here: MLX computes on the CPU")
    if os.environ.get("MTL_CAPTURE_ENABLED") != "1":
        raise ConfigError("Metal records nothing without MTL_CAPTURE_ENABLED=1 in the environment of the process")
    output = Path(args.output)
    if output.exists():
        raise ConfigError(f"{output} exists already")
    config = TrainConfig.for_preset(args.preset, steps=RUN_STEPS, seed=args.seed)
    dataset = open_dataset(Path(args.dataset_dir))
    prepare_process()
    trainer = Trainer(config, Ops.load(args.selection), dataset)
    for number in range(WARMUP_STEPS):
        report({"stage": "warm-up", "done": number, "total": WARMUP_STEPS})
        trainer.step()
    report({"stage": "capture"})
    mx.metal.start_capture(str(output))
    try:
        tokens = [trainer.step().tokens for _ in range(args.steps)]
    finally:
        mx.metal.stop_capture()
    if not output.exists():
        raise RuntimeError(f"Metal wrote no trace to {output}")
    return GputraceAnswer(**trained(dataset, trainer.ops.kernels), steps=args.steps, tokens_per_step=tokens[0])
