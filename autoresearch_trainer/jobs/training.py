"""Jobs of an A/B in the trainer: `throughput` (speed, side by side), `train` (fixed tokens), `evaluate` (val_bpb), and
`check` (kernels checked in place)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from autoresearch_trainer.jobs.base import (
    Count,
    DatasetRef,
    Facts,
    FileName,
    Job,
    JobAnswer,
    JobArgs,
    Selection,
    Sha256,
    Text,
)
from autoresearch_trainer.record import CheckedKernels, CompileCache


class ComparedArgs(JobArgs):
    """What is trained, on which data. after: kernels that are loaded before those of the job and not used, because
    compiled code is shared by processes that loaded the same."""

    preset: str
    dataset: DatasetRef
    after: Selection | None = None


Arm = Literal["baseline", "candidate"]


class ThroughputArgs(ComparedArgs):
    """baseline, candidate: the two selections. compiled: the arms that train compiled. seed: of the weights and of the
    order of the arms. seconds: of undisturbed pairs to measure, over within limit_seconds. block_steps: steps of one
    arm before the other's turn. least_pairs: before which it does not end for time. foreign_limit: share of the cores
    that other processes may use during a pair."""

    baseline: Selection
    candidate: Selection
    compiled: list[Arm] = []
    seed: int
    seconds: float
    limit_seconds: float
    block_steps: int
    least_pairs: int
    foreign_limit: float


class Pair(JobAnswer):
    """One block of each arm: seconds, which arm came first, the share of the cores that other processes used meanwhile,
    and whether that was little enough."""

    baseline: float
    candidate: float
    first: Arm
    foreign: float
    quiet: bool


class ThroughputAnswer(JobAnswer):
    """block_tokens: tokens of one block. environment: what a kernel changed in the process, in words. failed: how the
    candidate ended it, null where it did not. calls: {arm: {target: how often it was called}}, null where nobody
    counted. process: its settings. setup_seconds: until both arms had run a block. compile_cache: what it shared with
    others of compiled code; null where it compiled nothing."""

    pairs: list[Pair]
    block_tokens: Count
    environment: list[Text]
    failed: Text | None
    calls: dict[Text, dict[Text, Count]] | None
    process: Facts
    setup_seconds: float
    compile_cache: CompileCache | None = None


class TrainingRun(BaseModel):
    """One training from scratch for a schedule of `steps`. stop: how many of them are executed, null = all. one_ulp:
    the first weights are disturbed by one unit in the last place. save: the weights are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    seed: int
    steps: int
    stop: int | None = None
    one_ulp: bool = False
    save: bool = False


class TrainArgs(ComparedArgs):
    """Each of `runs`, one after the other, with one selection of kernels, compiled or not. widened:
    targets that are computed by their kernels with less rounding."""

    selection: Selection
    compile: bool = False
    widened: list[str] = []
    runs: list[TrainingRun]


class TrainingResult(JobAnswer):
    """losses: nats per token of every step. peak_memory_mb: the most that the process has used so far, in MiB. weights:
    file in the run folder, null where none are kept; sha256: its hash. failed: why the loss left the sane range, or
    null. environment: what changed in the process since before the kernels were loaded, in words."""

    id: Text
    losses: list[float]
    seconds: float
    tokens: Count
    peak_memory_mb: float
    weights: FileName | None
    sha256: Sha256 | None
    failed: Text | None
    environment: list[Text]


class TrainAnswer(JobAnswer):
    """process: its settings. compile_cache: as in `ThroughputAnswer`."""

    runs: list[TrainingResult]
    process: Facts
    compile_cache: CompileCache | None = None


class CheckedRun(BaseModel):
    """A training of `steps` steps whose calls of the job's `targets` are checked in place, compiled or not.
    share: of the steps' own time that may go into it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int
    steps: int
    compile: bool
    share: float


class CheckArgs(ComparedArgs):
    """Trainings with one selection of kernels, one after the other; of `targets` calls are checked in place."""

    selection: Selection
    targets: list[str]
    runs: list[CheckedRun]


class CheckedResult(JobAnswer):
    """What a `CheckedRun` found. failed: why it ended before its last step for another reason than a wrong kernel, in
    words. total_seconds: compiling included."""

    compile: bool
    checked: CheckedKernels
    failed: Text | None
    total_seconds: float


class CheckAnswer(JobAnswer):
    """Of each run, in their order."""

    runs: list[CheckedResult]


class SavedWeights(BaseModel):
    """Weights of a finished training: the file, and the hash that it must still have."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    path: str
    sha256: str


class EvaluateArgs(ComparedArgs):
    """selection: the kernels to evaluate with, the baseline's. eval_tokens: null = the preset's."""

    selection: Selection
    weights: list[SavedWeights]
    eval_tokens: int | None = None


class Evaluation(JobAnswer):
    """Bits per byte on the validation split, and what it comes from (see `EvalResult`); all null where the loss is not
    finite."""

    id: Text
    val_bpb: float | None
    nats: float | None
    bytes: Count | None
    tokens: Count | None
    standard_error: float | None = None


class EvaluateAnswer(JobAnswer):
    evaluations: list[Evaluation]


THROUGHPUT = Job("throughput", ThroughputArgs, ThroughputAnswer)
TRAIN = Job("train", TrainArgs, TrainAnswer)
EVALUATE = Job("evaluate", EvaluateArgs, EvaluateAnswer)
CHECK = Job("check", CheckArgs, CheckAnswer)
