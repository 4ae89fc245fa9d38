"""What the shared parts of a training run (plan, loop, rung report) ask of an engine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoresearch_trainer.ops import Ops


@dataclass(frozen=True)
class Rooms:
    """One engine's functions. `device` is the kind of device by name, `dtype` a compute dtype's name.

    trainer(config, ops, dataset, device); counter(): a `wrap` for Ops.load with `eager` and `traced` calls per target.
    resolve_compile(mode, device, steps) -> (compile?, why); describe_attention(device, dtype, kernel).
    available_bytes(device): free memory; own_bytes(device): what this process holds of it.
    evaluate_bpb and evaluate_rungs as in `evaluate`, of a model instead of losses, and with rows_at_once.
    load_model(path, ops, device); load_checkpoint(trainer, folder) -> extra.
    """

    ops: type[Ops]
    counter: Callable[[], Any]
    trainer: Callable[..., Any]
    prepare_process: Callable[[], dict[str, Any]]
    describe_device: Callable[[str], dict[str, Any]]
    describe_software: Callable[[], dict[str, str]]
    peak_memory_mb: Callable[[str], float]
    describe_attention: Callable[[str, str, str], str]
    resolve_compile: Callable[[str, str, int | None], tuple[bool, str]]
    available_bytes: Callable[[str], int]
    own_bytes: Callable[[str], int]
    is_out_of_memory: Callable[[BaseException], bool]
    evaluate_bpb: Callable[..., Any]
    evaluate_rungs: Callable[..., Any]
    load_model: Callable[..., Any]
    save_weights: Callable[..., None]
    save_checkpoint: Callable[..., None]
    load_checkpoint: Callable[..., dict[str, Any]]
    saver: Callable[..., Any]
