"""The MLX engine as the shared parts of a training run see it: a TrainerEngine, see autoresearch_trainer.engine."""

# ruff: noqa: F401  (the names are what this module is for)

from autoresearch_mlx.checkpoint import load_checkpoint, load_model, save_weights, take_snapshot, write_snapshot
from autoresearch_mlx.evaluate import BatchLosses
from autoresearch_mlx.forms import Forms
from autoresearch_mlx.kernel_files import CallCounter, Ops
from autoresearch_mlx.memory import available_bytes, is_out_of_memory, own_bytes
from autoresearch_mlx.process import (
    checks,
    compile_cache,
    describe_attention,
    describe_device,
    describe_software,
    peak_memory_mb,
    prepare_process,
    resolve_compile,
)
from autoresearch_mlx.train import Trainer
