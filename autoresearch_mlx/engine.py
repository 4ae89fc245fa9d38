"""The MLX engine as the shared parts of a training run see it: a TrainerEngine, see autoresearch_trainer.engine."""

from autoresearch_mlx.checkpoint import load_checkpoint, load_model, save_weights, take_snapshot, write_snapshot
from autoresearch_mlx.compiling import resolve_compile
from autoresearch_mlx.evaluate import BatchLosses
from autoresearch_mlx.kernel_files import BASELINE
from autoresearch_mlx.memory import available_bytes, is_out_of_memory, own_bytes
from autoresearch_mlx.ops import CallCounter, Ops
from autoresearch_mlx.process import describe_device, describe_software, peak_memory_mb, prepare_process
from autoresearch_mlx.train import Trainer

__all__ = [
    "BatchLosses",
    "CallCounter",
    "Ops",
    "Trainer",
    "available_bytes",
    "describe_attention",
    "describe_device",
    "describe_software",
    "is_out_of_memory",
    "load_checkpoint",
    "load_model",
    "own_bytes",
    "peak_memory_mb",
    "prepare_process",
    "resolve_compile",
    "save_weights",
    "take_snapshot",
    "write_snapshot",
]


def describe_attention(device: str, dtype: str, kernel: str) -> str:
    """The path that attention takes, for the run's summary. `kernel`: the one selected for windowed_attention."""
    return "products and softmax over a mask" if kernel == BASELINE else f"kernel {kernel}"
