"""This engine's functions as the shared parts of a training run want them."""

from autoresearch_mlx import compiling, memory, process
from autoresearch_mlx.checkpoint import load_checkpoint, load_model, save_checkpoint, save_weights
from autoresearch_mlx.evaluate import evaluate_bpb, evaluate_rungs
from autoresearch_mlx.kernel_files import BASELINE
from autoresearch_mlx.ops import CallCounter, Ops
from autoresearch_mlx.saver import BackgroundSaver
from autoresearch_mlx.train import Trainer
from autoresearch_trainer.rooms import Rooms


def describe_attention(device: str, dtype: str, kernel: str) -> str:
    """The path that attention takes, for the run's summary. `kernel`: the one selected for windowed_attention."""
    return "products and softmax over a mask" if kernel == BASELINE else f"kernel {kernel}"


ROOMS = Rooms(
    ops=Ops,
    counter=CallCounter,
    trainer=Trainer,
    prepare_process=process.prepare_process,
    describe_device=process.describe_device,
    describe_software=process.describe_software,
    peak_memory_mb=process.peak_memory_mb,
    describe_attention=describe_attention,
    resolve_compile=compiling.resolve_compile,
    available_bytes=memory.available_bytes,
    own_bytes=memory.own_bytes,
    is_out_of_memory=memory.is_out_of_memory,
    evaluate_bpb=evaluate_bpb,
    evaluate_rungs=evaluate_rungs,
    load_model=load_model,
    save_weights=save_weights,
    save_checkpoint=save_checkpoint,
    load_checkpoint=load_checkpoint,
    saver=BackgroundSaver,
)
