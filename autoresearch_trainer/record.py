"""What a run tells: its events while it goes on, and run.json, which is complete on the disk or not there at all."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NotRequired

from safetensors import SafetensorError
from typing_extensions import TypedDict  # pydantic reads none of `typing` before Python 3.12

from autoresearch_common.files import replacing_file
from autoresearch_trainer.errors import ConfigError


class ChoiceRecord(TypedDict):
    """One decision made before the run, for people: what, which value, why."""

    name: str
    value: str
    why: str


class CeilingRecord(TypedDict):
    """The peak rate measured on this machine in FLOP/s, the dtype it holds for, and the ledger's record of it."""

    flops: float
    dtype: str
    record: str


class ProcessSettings(TypedDict):
    """Settings of the whole process. threads: of the framework's operators; limits of MLX in MiB."""

    threads: int
    allocator: str
    float32_matmul_precision: NotRequired[str]
    backend: NotRequired[str]
    memory_limit_mb: NotRequired[int | None]
    wired_limit_mb: NotRequired[int | None]


class CompileKey(TypedDict):
    """What compiled code depends on. kernels: hash over those of the process, in the order of loading; engine: of the
    engine's own files; compiler: its command and version; threads: of the framework's operators; processor: hash of
    its model and features; instructions: the vector instructions that PyTorch and kernels in C++ use."""

    kernels: str
    engine: str
    python: str
    torch: str
    compiler: str
    threads: int
    processor: str
    instructions: str


class CompileCache(TypedDict):
    """What a process shared with others of compiled code. name: a hash of `key`; found, made: graphs taken from
    the cache, and compiled anew; seconds: that both took, tracing included."""

    name: str
    key: CompileKey
    found: int
    made: int
    seconds: float


class DeviceDescription(TypedDict):
    """kind: "cpu", "cuda", "mps" or "mlx". memory_mb: of the device, in MiB. cores: physical ones that may be used.
    capability: the vector instructions that PyTorch uses. backend: what MLX computes on."""

    kind: str
    name: str
    memory_mb: int
    cores: NotRequired[int]
    capability: NotRequired[str]
    backend: NotRequired[str]


class ModelDescription(TypedDict):
    """The fields of GPTConfig, the numbers of parameters by kind and in "total", and FLOP per trained token."""

    sequence_len: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int
    window_pattern: str
    parameters: dict[str, int]
    flops_per_token: int


class KernelCalls(TypedDict):
    """One target's kernel, its content hash and its calls; traced_calls: seen once, while the compiler traced."""

    name: str
    sha256: str
    path: str
    calls: int
    traced_calls: int


class CheckedKernel(TypedDict):
    """A kernel whose calls were checked in place. calls: made; checked, elements: compared with the baseline. worst:
    the largest error over what is allowed. bound: the largest share of wrong calls that is likely, at 95 %; null where
    none was checked."""

    name: str
    calls: int
    checked: int
    elements: int
    worst: float | None
    bound: float | None


class CheckedKernels(TypedDict):
    """What checking in place came to. targets: by name. steps: during which it went on; looks: comparisons of what
    kernels must leave alone; seconds: spent; wrong: what was found, in words."""

    targets: dict[str, CheckedKernel]
    steps: int
    looks: int
    seconds: float
    wrong: str | None


class Summary(TypedDict):
    """The numbers at the end of a run; MFU and rates as `summary.summarise` explains them. Times in seconds."""

    val_bpb: float | None
    training_seconds: float
    total_seconds: float
    peak_vram_mb: float
    mfu_percent: float | None
    mfu_measured_percent: float | None
    mfu_datasheet_percent: float | None
    datasheet_flops: float | None
    total_tokens_M: float
    num_steps: int
    num_params_M: float
    depth: int
    tokens_per_second: float | None
    timed_steps: int
    epoch: int


class Evaluation(TypedDict):
    """As evaluate.EvalResult."""

    val_bpb: float
    nats: float
    bytes: int
    tokens: int
    standard_error: float | None


class DatasetName(TypedDict):
    name: str
    fingerprint: str


class Steps(TypedDict):
    """Of every step: loss in nats per token, and wall time in seconds."""

    losses: list[float]
    step_seconds: list[float]


class RunRecord(TypedDict):
    """run.json. description: what the run tries. config: TrainConfig as JSON. What is NotRequired is known at the end,
    or in some runs only."""

    schema: int
    status: Literal["complete", "interrupted", "failed"]
    started: str
    description: str
    config: dict[str, Any]
    model: ModelDescription
    device: DeviceDescription
    software: dict[str, str]
    process: ProcessSettings
    dataset: DatasetName
    attention: str
    resumed_at: int | None
    startup_seconds: float
    seconds_to_first_step: float | None
    choices: list[ChoiceRecord]
    ceiling: CeilingRecord | None
    error: NotRequired[str]
    traceback: NotRequired[list[str]]
    checkpoints: NotRequired[dict[str, float]]
    compile_cache: NotRequired[CompileCache | None]
    summary: NotRequired[Summary]
    evaluation: NotRequired[Evaluation | None]
    kernels: NotRequired[dict[str, KernelCalls]]
    checked: NotRequired[CheckedKernels]
    losses: NotRequired[list[float]]
    step_seconds: NotRequired[list[float]]


class StartEvent(TypedDict):
    event: Literal["start"]
    parameters: int
    record: RunRecord


class StepEvent(TypedDict):
    """After an optimizer step, the first being 1. progress: 0 to 1; losses in nats per token, times in seconds."""

    event: Literal["step"]
    step: int
    progress: float
    loss: float
    smoothed_loss: float
    seconds: float
    tokens_per_second: float
    training_seconds: float


class EvaluateEvent(TypedDict):
    """Batches done, of how many."""

    event: Literal["evaluate"]
    done: int
    total: int


class SummaryEvent(TypedDict):
    event: Literal["summary"]
    lines: list[str]
    record: RunRecord


Event = StartEvent | StepEvent | EvaluateEvent | SummaryEvent


def finite(value: Any) -> Any:
    """The JSON value with null in the place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write a finite JSON value; the file is replaced as a whole. Raises ConfigError where it cannot be written."""
    with written(path), replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Raises ConfigError in the place of what a full disk makes of writing `path`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot write {path}: {error}") from error
