"""The PyTorch engine as the shared parts of a training run see it: a TrainerEngine, see autoresearch_trainer.engine."""

# ruff: noqa: F401  (the names are what this module is for)

from autoresearch_cuda.checkpoint import load_checkpoint, load_model, save_weights, take_snapshot, write_snapshot
from autoresearch_cuda.checks import checks
from autoresearch_cuda.compile_cache import used as compile_cache
from autoresearch_cuda.evaluate import BatchLosses
from autoresearch_cuda.forms import Forms
from autoresearch_cuda.kernel_files import CallCounter, Ops
from autoresearch_cuda.plan import available_bytes, describe_attention, resolve_compile
from autoresearch_cuda.process import (
    describe_device,
    describe_software,
    is_out_of_memory,
    own_bytes,
    peak_memory_mb,
    prepare_process,
)
from autoresearch_cuda.train import Trainer
