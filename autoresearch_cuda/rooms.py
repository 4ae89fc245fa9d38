"""This engine's functions as the shared parts of a training run want them."""

import torch

from autoresearch_cuda import attention, compiling, memory, process
from autoresearch_cuda.checkpoint import load_checkpoint, load_model, save_checkpoint, save_weights
from autoresearch_cuda.evaluate import evaluate_bpb, evaluate_rungs
from autoresearch_cuda.ops import CallCounter, Ops
from autoresearch_cuda.saver import BackgroundSaver
from autoresearch_cuda.train import Trainer
from autoresearch_trainer.rooms import Rooms

ROOMS = Rooms(
    ops=Ops,
    counter=CallCounter,
    trainer=Trainer,
    prepare_process=process.prepare_process,
    describe_device=lambda device: process.describe_device(torch.device(device)),
    describe_software=process.describe_software,
    peak_memory_mb=lambda device: process.peak_memory_mb(torch.device(device)),
    describe_attention=lambda device, dtype, kernel: attention.describe(device, getattr(torch, dtype), kernel),
    resolve_compile=compiling.resolve_compile,
    available_bytes=lambda device: memory.available_bytes(device),
    own_bytes=lambda device: memory.own_bytes(device),
    is_out_of_memory=memory.is_out_of_memory,
    evaluate_bpb=evaluate_bpb,
    evaluate_rungs=evaluate_rungs,
    load_model=load_model,
    save_weights=save_weights,
    save_checkpoint=save_checkpoint,
    load_checkpoint=load_checkpoint,
    saver=BackgroundSaver,
)
