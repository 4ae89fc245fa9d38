"""Part `train`: the compiled baseline against the Triton kernels, the same tokens and seed in a process each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from autoresearch_lab.bench.rule import FASTER
from autoresearch_lab.campaign.command import Completed, label, python
from autoresearch_lab.campaign.gpu.result import ArmTrained, Benched, Trained, Verified
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.campaign.gpu.verdicts import known
from autoresearch_lab.campaign.steps import StepFailed, TimeBox
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.ceilings import known_peak
from autoresearch_lab.results.record import BenchRecord, VerifyRecord

STEPS, EVAL_TOKENS = 40, 1 << 19
SECOND_ARM_SECONDS = 50.0
# What an interpreter takes says nothing.
TIMES = ("tokens_per_second", "mfu_percent", "mfu_measured_percent", "mfu_datasheet_percent", "training_seconds")
Verdicts = Callable[[str, Kernel], str | None]


@dataclass(frozen=True)
class TrainedWith:
    """kernels: {target: kernel to train with}; left_out: {kernel: why it is left out}; rule: how they were chosen."""

    kernels: dict[str, Kernel]
    left_out: dict[str, str]
    rule: str


class ShortTraining(BaseModel):
    """What `autoresearch_cuda.short` is asked for, in a process of its own: one training, or a trace of one.

    small: one short sequence at a time. dataset, out: folders. selection: {target: kernel}. peak_flops: as measured
    on this machine. trace: the file for PyTorch's profiler to write; None: it is trained and evaluated.
    """

    device: str
    preset: str
    small: bool
    steps: int
    eval_tokens: int
    dataset: str
    selection: dict[str, dict[str, str]]
    out: str
    peak_flops: float | None = None
    trace: str | None = None

    @classmethod
    def of(cls, setting: Setting, kernels: dict[str, Kernel], out: Path, trace: Path | None = None) -> ShortTraining:
        key = setting.device_key
        peak = known_peak(setting.lab.ledger, "cuda", key, "bfloat16") if key and trace is None else None
        return cls(
            device=setting.engine,
            preset=setting.preset,
            small=setting.small,
            steps=2 if setting.small else STEPS,
            eval_tokens=EVAL_TOKENS,
            dataset=str(setting.root.data(setting.dataset)),
            selection={target: kernel.plain() for target, kernel in kernels.items()},
            out=str(out),
            peak_flops=peak["flops"] if peak else None,
            trace=str(trace) if trace else None,
        )


def train(setting: Setting, box: TimeBox) -> Trained:
    """One run per arm: no interval, no verdict; that is what the A/B is for. Raises StepFailed where neither arm
    ends."""
    chosen = choose(setting)
    arms: dict[str, ArmTrained] = {}
    failed: dict[str, str] = {}
    for arm, kernels in (("baseline", dict[str, Kernel]()), ("triton", chosen.kernels)):
        if arm == "triton" and not kernels:
            failed[arm] = f"no kernel to train with ({chosen.rule})"
            continue
        # The first may take what the second, whose code is compiled by then for the most part, does not need.
        limit = TimeBox(box.deadline - (SECOND_ARM_SECONDS if arm == "baseline" else 0.0))
        try:
            arms[arm] = _one(setting, arm, kernels, limit)
        except StepFailed as failure:
            failed[arm] = str(failure)
    if not arms:
        raise StepFailed("; ".join(failed.values()))
    found = Trained(arms=arms, chosen=sorted(chosen.kernels), rule=chosen.rule, left_out=chosen.left_out, failed=failed)
    before, after = arms.get("baseline"), arms.get("triton")
    if before and after and before.tokens_per_second and after.tokens_per_second and not setting.rehearse:
        found.speedup = after.tokens_per_second / before.tokens_per_second
    if before and after and before.val_bpb is not None and after.val_bpb is not None:
        found.val_bpb_difference = after.val_bpb - before.val_bpb
    return found


def choose(setting: Setting) -> TrainedWith:
    """The kernels to train with, as far as verdicts are known; in a first try all of them, to see whether they can be
    trained with."""
    if setting.first:
        kernels = setting.kernels if setting.rehearse else setting.every_kernel
        return selection(kernels, lambda part, kernel: "PASS" if part == "verify" else None)
    return selection(setting.kernels, verdicts_known(setting))


def verdicts_known(setting: Setting) -> Verdicts:
    """(part, kernel) -> its verdict: of this call, else of an earlier one; None where there is none."""

    def verdict(part: str, kernel: Kernel) -> str | None:
        found = setting.found(Verified) if part == "verify" else setting.found(Benched)
        told = found.root.get(label(kernel)) if found else None
        if (told is None or told.verdict is None) and (
            record := known(setting, VerifyRecord if part == "verify" else BenchRecord, kernel)
        ):
            return record.verdict
        return told.verdict if told else None

    return verdict


def selection(kernels: Iterable[Kernel], verdict: Verdicts) -> TrainedWith:
    """Only what passed verification, and as soon as there are bench verdicts only what is FASTER. A composite kernel
    takes the place of its parts."""
    # Looked up once each: what an earlier call knows is read from the captured calls' files.
    found = [(kernel, verdict("verify", kernel), verdict("bench", kernel)) for kernel in kernels]
    timed = any(benched for _, verified, benched in found if verified == "PASS")
    chosen: dict[str, Kernel] = {}
    left_out: dict[str, str] = {}
    for kernel, verified, benched in found:
        if verified != "PASS":
            left_out[label(kernel)] = "failed verification" if verified == "FAIL" else "not verified"
        elif timed and benched != FASTER:
            left_out[label(kernel)] = f"bench: {benched}" if benched else "not benched"
        elif kernel.target in chosen:
            left_out[label(kernel)] = f"{chosen[kernel.target].name} stands for this target"
        else:
            chosen[kernel.target] = kernel
    rule = "verified and FASTER" if timed else "verified; none was benched, so whether they are faster is unknown"
    return TrainedWith(chosen, left_out, rule)


def _one(setting: Setting, arm: str, kernels: dict[str, Kernel], box: TimeBox) -> ArmTrained:
    """Raises StepFailed, which says of which arm."""
    done = short_training(setting, ShortTraining.of(setting, kernels, setting.work / "train" / arm), box)
    if done.code != 0:
        raise StepFailed(f"training the {arm} arm: {done.reason}", done.code, done.printed)
    found = ArmTrained.model_validate({**done.json(), "seconds": round(done.seconds, 1)})
    return found.model_copy(update=dict.fromkeys(TIMES)) if setting.rehearse else found


def short_training(setting: Setting, request: ShortTraining, box: TimeBox) -> Completed:
    """Through Triton's interpreter where kernels are rehearsed."""
    folder = Path(request.out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "request.json"
    path.write_text(request.model_dump_json(), encoding="utf-8")
    interpreted = {"TRITON_INTERPRET": "1"} if setting.rehearse and request.selection else {}
    return setting.run(box, python("-m", "autoresearch_cuda.short", str(path)), f"short-{folder.name}", interpreted)
