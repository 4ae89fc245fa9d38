"""Records of kind "fit": which shape of the trainer suits this machine."""

from __future__ import annotations

from autoresearch_lab.results.base import Dataset, KernelId, Typed


class FitSettings(Typed):
    """What was fitted. preset: the one whose vocabulary, sequence length and evaluation all shapes have; minutes: the
    budget, None = as long as it takes; horizon: seconds of training that the answer is for; kernels: trained with."""

    preset: str
    dataset: Dataset
    minutes: float | None
    horizon: float
    seed: int
    foreign_limit: float
    kernels: dict[str, KernelId] = {}


class FitStage(Typed):
    """Trainings of one length: of so many shapes, each for so many seconds. automatic: compiled or not as train.py
    decides; else none of them is."""

    shapes: int
    seconds: int
    automatic: bool


class FitRun(Typed):
    """One training of a shape, by its preset's name. stage: 0 is the first one of the default, the last ones are pairs.
    automatic: as in `FitStage`; compiled: what came of it. seconds: of training; tokens: trained on; wall_seconds,
    compile_seconds: of the whole process, and of compiling in it; foreign_share: of the cores, used by other processes
    meanwhile."""

    preset: str
    stage: int
    seed: int
    automatic: bool
    compiled: bool
    seconds: int
    steps: int
    tokens: int
    tokens_per_step: int
    tokens_per_second: float
    val_bpb: float
    memory_mb: float
    parameters: int
    wall_seconds: float
    compile_seconds: float
    foreign_share: float


class ForecastShape(Typed):
    """A shape that was tried, and what it comes to at the horizon. stages: how many it came through. val_bpb: as
    predicted, with bounds of 95 %; steps, tokens_per_second, memory_mb: as train.py would have them there."""

    preset: str
    depth: int
    width: int
    tokens_per_step: int
    parameters: int
    stages: int
    tokens_per_second: float
    steps: int
    memory_mb: float
    val_bpb: float
    lower: float
    upper: float


class FitPair(Typed):
    """Both shapes trained from one seed that chose nothing; delta: candidate - default."""

    seed: int
    default: float
    candidate: float
    delta: float


class RungCost(Typed):
    """One rung of the evaluation, on models that were trained here. seconds: that it takes; level: its error against
    the full rung in bits per byte, root mean square and largest; difference: that of the difference of two models."""

    rung: str
    tokens: int
    seconds: float
    level: float
    worst: float
    difference: float | None
    standard_error: float


class FitResults(Typed):
    """What was found. candidate: the best shape besides the default, compared with it in `pairs` of `pair_seconds`;
    delta: the mean of that with bounds at `level` (both sides); gain: predicted at the horizon, with bounds of 95 %.
    recommended: candidate or default; lower, upper: the smallest and the largest tried shape within `zone` bits per
    byte of it there; longer: the larger one for longer trainings, with that many seconds. exponent: of the curve.
    dropped: {preset: why it did not train}. disturbed: others used the machine. predicted_seconds: at the start."""

    reason: str
    recommended: str
    candidate: str | None = None
    delta: float | None = None
    delta_lower: float | None = None
    delta_upper: float | None = None
    level: float | None = None
    gain: float | None = None
    gain_lower: float | None = None
    gain_upper: float | None = None
    lower: str
    upper: str
    zone: float
    longer: str | None = None
    longer_seconds: float
    exponent: float
    pair_seconds: int
    stages: list[FitStage] = []
    shapes: list[ForecastShape] = []
    runs: list[FitRun] = []
    pairs: list[FitPair] = []
    rungs: list[RungCost] = []
    dropped: dict[str, str] = {}
    disturbed: bool = False
    predicted_seconds: float
    seconds: float
    reused: int = 0
