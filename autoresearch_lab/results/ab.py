"""Records of kind "ab": is the trainer better with these kernels? docs/ab.md explains the gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from autoresearch_lab.results.base import Dataset, KernelId, Mode, Typed
from autoresearch_trainer.record import CheckedKernels, CompileCache


def _word(value: object) -> object:
    """Earlier versions wrote whether both arms were compiled."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


# auto: each arm in its fastest mode; on, off: both arms compiled, or neither.
CompileChoice = Annotated[Literal["auto", "on", "off"], BeforeValidator(_word)]


class AbSeeds(Typed):
    """training: of the fixed-token trainings; race: of the speed measurement's processes."""

    training: list[int] = []
    race: list[int] = []


class CandidateKernel(Typed):
    """A kernel of the candidate's arm, with what it was judged on and the records that let it in."""

    target: str | None = None
    name: str = ""
    sha256: str
    contract_sha256: str | None = None
    workloads_sha256: str | None = None
    verify: str | None = None
    bench: str | None = None


class AbRule(Typed):
    """What was fixed before anything was measured; see `ab.settings.Settings` for each number."""

    looks: list[int]
    race_seconds: float
    race_limit: float
    block_steps: int
    foreign_limit: float
    alpha: float
    speed_margin: float
    futility_alpha: float
    steps: int
    eval_tokens: int | None
    margin: float
    sd_floor: float
    sd_df: int
    divergence_steps: int
    divergence_limit: float
    rounding_share: float | None = None
    check_steps: int | None = None
    check_share: float | None = None
    clear_speed: float
    clear_seeds: int
    gain_share: float
    gain_tolerance: float
    seed: int
    compile: CompileChoice
    mode_seconds: float | None = None


class AbSettings(Typed):
    """What was compared. candidate: {target: kernel laid over the other arm}; baseline: {target: kernel of the other
    arm}, all that the trainer calls. contract_sha256: of the only target, where there is one."""

    preset: str = ""
    dataset: Dataset | None = None
    candidate: dict[str, CandidateKernel] = {}
    baseline: dict[str, KernelId] = {}
    rule: AbRule | None = None
    compile: CompileChoice = "off"
    contract_sha256: str | None = None
    calibration: str | None = None


class Stretch(Typed):
    """A part of the training's course: first and last step, and the ratio of the divergences there."""

    steps: list[int]
    ratio: float


class GateNumbers(Typed):
    """One gate. passed: None = the data do not decide. note: one line that says why. The numbers are those of its kind:

    speed: ratio of tokens/s with lower and upper bound; at_most: the bound by which it is given up. neutral, benefit:
    delta of val_bpb in bits per byte, candidate - baseline, with bounds. divergence: ratio to that of one unit in the
    last place, limit, and the curves (candidate, control, and rounding where that was measured: the baseline with the
    candidate's targets in float32; root mean square over seeds, in nats, by step). gain:
    realised and predicted gain in tokens/s, and the saved fractions of the step. environment: what the candidate
    changed in its process. in_place: none; see `AbResults.in_place`.
    """

    passed: bool | None = None
    note: str = ""
    ratio: float | None = None
    delta: float | None = None
    lower: float | None = None
    upper: float | None = None
    level: float | None = None
    margin: float | None = None
    sd: float | None = None
    sd_log: float | None = None
    at_most: float | None = None
    at_most_level: float | None = None
    limit: float | None = None
    steps: int | None = None
    stretches: list[Stretch] = []
    candidate: list[float] = []
    control: list[float] = []
    rounding: list[float] = []
    realised: float | None = None
    realised_saved: float | None = None
    predicted: float | None = None
    predicted_saved: float | None = None
    changes: list[str] = []
    baseline_steps: int | None = None
    candidate_steps: int | None = None


class ProcessSpeed(Typed):
    """One process of the speed measurement. log_ratio: ln(baseline seconds / candidate seconds), > 0 = faster; step_ms:
    of the baseline's arm; pairs, discarded: of alternating blocks; foreign_share: of the cores, used by others."""

    seed: int
    log_ratio: float
    ratio: float
    tokens_per_second: dict[str, float]
    step_ms: float | None = None
    pairs: int
    discarded: int
    foreign_share: float
    disturbed: bool


class SeedLoss(Typed):
    """val_bpb of a pair of trainings, bits per byte; delta: candidate - baseline."""

    seed: int
    baseline: float
    candidate: float
    delta: float


class ModeSpeeds(Typed):
    """The mode that an arm trained in, and why. eager, compiled: its tokens/s in both, measured in turns in one process
    before the races; null where that was not measured."""

    used: Mode
    reason: str
    eager: float | None = None
    compiled: float | None = None


class CheckedMode(Typed):
    """Kernels checked in place in one mode. checked: what was compared (see `CheckedKernels`); null, with the reason in
    `not_checked`, where that did not come to be. seconds: of the whole run, compiling included."""

    checked: CheckedKernels | None = None
    not_checked: str | None = None
    seconds: float | None = None


class CompiledProcess(Typed):
    """A process that trained compiled: what it did, and what it shared with others of compiled code."""

    process: str
    cache: CompileCache


class AbResults(Typed):
    """What the A/B found.

    look, attempt: at which look it ended, and which attempt with these arms it was; alpha: one-sided error of every
    gate. tokens_per_second, val_bpb: by arm, medians and means. ratio: of tokens/s, with bounds. losses: training loss
    by step, mean over seeds, in nats. gates: by name, those that were reached. neutral, benefit: the pairs of both
    gates. modes: by arm, eager or compiled. in_place: by mode, what checking the candidate's calls in a training found.
    disturbed: foreign load ended it; nothing is concluded. peak_memory_mb: by arm, MiB. seconds: by part. reused:
    trainings taken over from earlier runs. compile_caches: of the processes that trained compiled, in their order.
    """

    reason: str = ""
    look: int = 0
    attempt: int = 1
    alpha: float | None = None
    tokens_per_second: dict[str, float | None] = {}
    ratio: float | None = None
    ratio_lower: float | None = None
    ratio_upper: float | None = None
    val_bpb: dict[str, float | None] = {}
    losses: dict[str, list[float]] = {}
    gates: dict[str, GateNumbers] = {}
    processes: list[ProcessSpeed] = []
    process_ratios: list[float] = []
    neutral: list[SeedLoss] = []
    benefit: list[SeedLoss] = []
    equal_time_steps: int | None = None
    modes: dict[str, ModeSpeeds] = {}
    in_place: dict[Mode, CheckedMode] = {}
    disturbed: bool = False
    peak_memory_mb: dict[str, float] = {}
    seconds: dict[str, float] = {}
    reused: int = 0
    compile_caches: list[CompiledProcess] = []
    remarks: list[str] = []
