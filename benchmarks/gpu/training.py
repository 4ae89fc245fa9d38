"""Part `train`: the compiled baseline against the Triton kernels, the same tokens and seed in a process each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from autoresearch_lab.bench.rule import FASTER
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.ceilings import known_peak
from benchmarks.gpu.command import PartFailed, run
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.verdicts import known, label

STEPS, EVAL_TOKENS = 40, 1 << 19
SECOND_ARM_SECONDS = 50.0


def train(setting: Setting, seconds: float, parts: dict[str, Any]) -> dict[str, Any]:
    """{"arms": {"baseline": summary, "triton": summary}, "speedup", "val_bpb_difference", "chosen": [target, ...],
    "rule": how they were chosen, "left_out": {kernel: why}, "failed": {arm: why}}.

    One run per arm: no interval, no verdict; that is what the A/B is for. Raises PartFailed where neither arm ends.
    """
    chosen, left_out, rule = selection(setting.kernels, verdicts_known(setting, parts))
    arms: dict[str, Any] = {}
    failed: dict[str, str] = {}
    end = setting.left - seconds
    for arm, kernels in (("baseline", {}), ("triton", chosen)):
        if arm == "triton" and not chosen:
            failed[arm] = f"no kernel to train with ({rule})"
            continue
        # The first may take what the second, whose code is compiled by then for the most part, does not need.
        limit = setting.left - end - (SECOND_ARM_SECONDS if arm == "baseline" else 0.0)
        try:
            arms[arm] = _one(setting, arm, kernels, limit)
        except PartFailed as failure:
            failed[arm] = str(failure)
    if not arms:
        raise PartFailed("; ".join(failed.values()))
    found: dict[str, Any] = {"arms": arms, "chosen": sorted(chosen), "rule": rule, "left_out": left_out}
    found |= {"failed": failed, "speedup": None, "val_bpb_difference": None}
    speed = [arms.get(arm, {}).get("tokens_per_second") for arm in ("baseline", "triton")]
    bits = [arms.get(arm, {}).get("val_bpb") for arm in ("baseline", "triton")]
    if all(speed) and not setting.rehearse:
        found["speedup"] = speed[1] / speed[0]
    if None not in bits:
        found["val_bpb_difference"] = bits[1] - bits[0]
    return found


def verdicts_known(setting: Setting, parts: dict[str, Any]) -> Callable[[str, Kernel], str | None]:
    """(part, kernel) -> its verdict: of this call, else of an earlier one; None where there is none."""

    def verdict(part: str, kernel: Kernel) -> str | None:
        told = (parts.get(part) or {}).get(label(kernel)) or {}
        if told.get("verdict") is None and (record := known(setting, part, kernel)):
            return record.verdict
        return told.get("verdict")

    return verdict


def selection(
    kernels: Iterable[Kernel], verdict: Callable[[str, Kernel], str | None]
) -> tuple[dict[str, dict[str, str]], dict[str, str], str]:
    """({target: kernel to train with}, {kernel: why it is left out}, the rule): only what passed verification, and as
    soon as there are bench verdicts only what is FASTER. A composite kernel takes the place of its parts."""
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
    return {target: kernel.plain() for target, kernel in chosen.items()}, left_out, rule


def _one(setting: Setting, arm: str, kernels: dict[str, Any], seconds: float) -> dict[str, Any]:
    folder = setting.work / "train" / arm
    folder.mkdir(parents=True, exist_ok=True)
    peak = known_peak(setting.ledger, "cuda", setting.device_key, "bfloat16") if setting.device_key else None
    request = {
        "device": setting.device,
        "preset": setting.preset,
        "small": setting.rehearse,
        "steps": 2 if setting.rehearse else STEPS,
        "eval_tokens": EVAL_TOKENS,
        "dataset": str(setting.root.data(setting.dataset)),
        "selection": kernels,
        "out": str(folder),
        "peak_flops": peak["flops"] if peak else None,
    }
    path = folder / "request.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    interpreted = setting.rehearse and bool(kernels)
    done = run(setting, ["-m", "benchmarks.gpu.steps", str(path)], seconds, interpreted)
    if done.code != 0:
        raise PartFailed(f"training the {arm} arm: {done.reason}")
    summary = done.json()
    if setting.rehearse:  # what an interpreter takes says nothing
        summary |= dict.fromkeys(("tokens_per_second", "mfu_percent", "mfu_measured_percent", "training_seconds"))
    return {**summary, "seconds": round(done.seconds, 1)}
