"""What the shared parts of a training run (plan, loop, evaluation, the probe's jobs) ask of an engine."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from autoresearch_data.dataset import Dataset
from autoresearch_trainer.checkpoint import Extra, Snapshot
from autoresearch_trainer.checks import Checks
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.evaluate import Losses
from autoresearch_trainer.forms import Forms
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.model import Model
from autoresearch_trainer.ops import CallCounter, Ops
from autoresearch_trainer.record import CompileCache, DeviceDescription, ProcessSettings
from autoresearch_trainer.sampling import Sampler
from autoresearch_trainer.train import TrainerBase


class PlanningEngine(Protocol):
    """What is asked before a training: the names that a module such as autoresearch_cuda.plan has."""

    def describe_attention(self, device: str, dtype: str, kernel: str) -> tuple[str, str]:
        """(the path that attention takes, why). `kernel`: the one selected for windowed_attention."""

    def resolve_compile(self, mode: str, device: str, steps: int | None) -> tuple[bool, str]:
        """(compile?, why) for "auto", "on" or "off", and a run of so many steps (None: as time allows)."""

    def available_bytes(self, device: str) -> int:
        """Free memory."""


class TrainerEngine(PlanningEngine, Protocol):
    """The names that a module such as autoresearch_cuda.engine has. Classes are members like functions.

    `device` is the kind of device by name ("cpu", "cuda", "mps", "mlx"), `dtype` a compute dtype's name. A model and a
    trainer are always the engine's own, as are the tensors in them.
    """

    @property
    def Ops(self) -> type[Ops]: ...

    def Forms(self, selection: Mapping[str, Any], device: str) -> Forms:
        """A look at what the kernels of a selection return."""

    def CallCounter(self) -> CallCounter:
        """A `wrap` for Ops.load."""

    def Trainer(self, config: TrainConfig, ops: Any, dataset: Dataset, device: str) -> TrainerBase: ...

    def BatchLosses(self, model: Any, rows: int) -> Losses:
        """Losses of a batch in pieces of at most `rows` sequences, smaller ones once memory has run out."""

    def checks(
        self, selection: Mapping[str, KernelFile], sampler: Sampler, device: str, only: Collection[str] | None = None
    ) -> Checks:
        """Checks in place of every kernel that is not the baseline's, or of the targets `only`. Raises ConfigError
        where this engine has none."""

    def prepare_process(self) -> ProcessSettings:
        """Set up the process once; says what was done."""

    def describe_device(self, device: str) -> DeviceDescription: ...

    def describe_software(self) -> dict[str, str]:
        """Versions by name."""

    def compile_cache(self) -> CompileCache | None:
        """What this process shared with others of compiled code; None where it compiled nothing, or shares nothing."""

    def peak_memory_mb(self, device: str) -> float:
        """Highest memory use of this process so far in MiB."""

    def own_bytes(self, device: str) -> int:
        """What this process holds of the memory."""

    def is_out_of_memory(self, error: BaseException) -> bool: ...

    def load_model(self, path: Path, ops: Any, device: str) -> Model: ...

    def save_weights(self, model: Any, path: Path) -> None: ...

    def take_snapshot(self, trainer: Any, extra: Extra, buffers: dict[str, Any] | None) -> Snapshot:
        """The trainer's state. `buffers`: copied into these, made on first use, so that training can go on."""

    def write_snapshot(self, snapshot: Snapshot, folder: Path) -> None:
        """Write a checkpoint folder."""

    def load_checkpoint(self, trainer: Any, folder: Path) -> Extra:
        """Put a fresh trainer where the saved one was; returns `extra`."""
