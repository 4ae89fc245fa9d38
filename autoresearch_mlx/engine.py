"""The MLX engine as the shared parts of a training run see it: a TrainerEngine, see autoresearch_trainer.engine."""

# ruff: noqa: F401  (the names are what this module is for)

from autoresearch_mlx.checkpoint import load_checkpoint, load_model, save_weights, take_snapshot, write_snapshot
from autoresearch_mlx.evaluate import BatchLosses
from autoresearch_mlx.kernel_files import BASELINE
from autoresearch_mlx.memory import available_bytes, is_out_of_memory, own_bytes
from autoresearch_mlx.ops import CallCounter, Ops
from autoresearch_mlx.process import (
    describe_device,
    describe_software,
    peak_memory_mb,
    prepare_process,
    resolve_compile,
)
from autoresearch_mlx.train import Trainer


def describe_attention(device: str, dtype: str, kernel: str) -> str:
    """The path that attention takes, for the run's summary. `kernel`: the one selected for windowed_attention."""
    return "products and softmax over a mask" if kernel == BASELINE else f"kernel {kernel}"


def compile_cache() -> None:
    """mx.compile keeps nothing beyond its process."""
