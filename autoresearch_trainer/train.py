"""The part of a training run that needs no framework: its data, its schedules, and when it ends."""

from collections.abc import Callable
from dataclasses import dataclass

from autoresearch_data.dataset import Dataset
from autoresearch_data.packing import BestFitLoader, LoaderState
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.errors import ConfigError, TrainingFailed
from autoresearch_trainer.model import Model
from autoresearch_trainer.ops import Ops
from autoresearch_trainer.optim import lr_multiplier, muon_momentum, weight_decay_multiplier

UNTIMED_STEPS = 11  # warm-up: not part of the time budget, nor of tokens per second
LOSS_LIMIT = 100.0
COMPILE_MODES = ("auto", "on", "off")


@dataclass(frozen=True)
class StepResult:
    """loss: nats per token of the step's last micro-batch; seconds: wall time, data included; tokens: trained on."""

    loss: float
    seconds: float
    tokens: int


class TrainerBase:
    """Data, schedules and clock of one run. An engine's Trainer adds model, optimizer and `step`.

    dataset: `.tokenizer` (vocab_size, bos_id, token_bytes) and `.split("train")`. Raises ConfigError where the
    dataset's vocabulary is not the model's.
    """

    model: Model

    def __init__(self, config: TrainConfig, ops: Ops, dataset: Dataset) -> None:
        if dataset.tokenizer.vocab_size != config.model.vocab_size:
            raise ConfigError(
                f"the dataset has a vocabulary of {dataset.tokenizer.vocab_size} tokens, "
                f"the model one of {config.model.vocab_size}"
            )
        self.config = config
        self.ops = ops
        self.dataset = dataset
        self.steps_done = 0
        self.timed_steps = 0
        self.training_seconds = 0.0
        self.epoch = 0
        self.loader = self.new_loader()
        # Called once in every step, between its last backward pass and the optimizer.
        self.before_update: Callable[[], None] = lambda: None

    def new_loader(self, state: LoaderState | None = None) -> BestFitLoader:
        """The training data from its start, or from where `state` says."""
        config, tokens = self.config, self.dataset.split("train")
        bos_id = self.dataset.tokenizer.bos_id
        return BestFitLoader(tokens, config.batch_size, config.model.sequence_len, bos_id, state=state)

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1: by steps where their number is fixed, else by counted time."""
        if self.config.steps is not None:
            return min(self.steps_done / self.config.steps, 1.0)
        assert self.config.time_budget is not None  # TrainConfig has exactly one of the two
        return min(self.training_seconds / self.config.time_budget, 1.0)

    @property
    def finished(self) -> bool:
        if self.config.steps is not None:
            return self.steps_done >= self.config.steps
        return self.steps_done >= UNTIMED_STEPS and self.progress >= 1

    def schedules(self) -> tuple[float, float, float]:
        """Multipliers of learning rate and weight decay, and Muon's momentum, of the step under way."""
        config, progress = self.config, self.progress
        return (
            lr_multiplier(progress, config.warmup_ratio, config.warmdown_ratio, config.final_lr_fraction),
            weight_decay_multiplier(progress),
            muon_momentum(self.steps_done),
        )

    def end_step(self, loss: float, seconds: float) -> StepResult:
        """Count the step. Raises TrainingFailed if the loss is not finite or above 100."""
        if not abs(loss) <= LOSS_LIMIT:
            raise TrainingFailed(
                f"loss is {loss:.4g} at step {self.steps_done}; largest gradient: {self.largest_gradient()}"
            )
        if self.steps_done >= UNTIMED_STEPS:
            self.training_seconds += seconds
            self.timed_steps += 1
        self.steps_done += 1
        return StepResult(loss, seconds, self.config.total_batch_tokens)

    def step(self) -> StepResult:
        """One optimizer step. Raises TrainingFailed if the loss is not finite or above 100.

        The gradients are kept until the next step begins.
        """
        raise NotImplementedError

    def drop_gradients(self) -> None:
        """Give back the memory that the last step's gradients take."""

    def largest_gradient(self) -> str:
        """Name and norm of the parameter whose gradient is largest; one that is not finite comes first."""
        raise NotImplementedError
