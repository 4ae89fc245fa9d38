"""Part `train`: the compiled baseline against the Triton kernels, the same tokens and seed in a process each."""

from __future__ import annotations

import json
from typing import Any

from autoresearch_lab.bench.rule import SLOWER
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.machine import known_peak
from benchmarks.gpu.command import PartFailed, run
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.verdicts import label

STEPS, EVAL_TOKENS = 40, 1 << 19
SHOWN = ("tokens_per_second", "peak_vram_mb", "mfu_measured_percent", "mfu_datasheet_percent", "val_bpb")


def train(setting: Setting, seconds: float, parts: dict[str, Any]) -> dict[str, Any]:
    """{"arms": {"baseline": summary, "triton": summary}, "speedup", "val_bpb_difference", "left_out": {kernel: why}}.

    One run per arm: no interval, no verdict; that is what the A/B is for. Raises PartFailed where an arm fails.
    """
    chosen, left_out = selection(setting, parts)
    arms: dict[str, Any] = {}
    end = setting.left - seconds
    for number, (arm, kernels) in enumerate((("baseline", {}), ("triton", chosen))):
        limit = (setting.left - end) / (2 - number)
        arms[arm] = _one(setting, arm, kernels, limit)
    found: dict[str, Any] = {"arms": arms, "left_out": left_out, "speedup": None, "val_bpb_difference": None}
    speed = [arms[arm].get("tokens_per_second") for arm in ("baseline", "triton")]
    bits = [arms[arm].get("val_bpb") for arm in ("baseline", "triton")]
    if all(speed) and not setting.rehearse:
        found["speedup"] = speed[1] / speed[0]
    if None not in bits:
        found["val_bpb_difference"] = bits[1] - bits[0]
    return found


def selection(setting: Setting, parts: dict[str, Any]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """({target: kernel to train with}, {kernel: why it is left out}): what is known to be wrong or slower stays out. A
    composite kernel takes the place of its parts."""
    chosen: dict[str, Kernel] = {}
    left_out: dict[str, str] = {}
    for kernel in setting.kernels:
        name = label(kernel)
        verified = ((parts.get("verify") or {}).get(name) or {}).get("verdict")
        benched = ((parts.get("bench") or {}).get(name) or {}).get("verdict")
        if verified == "FAIL":
            left_out[name] = "failed verification"
        elif benched == SLOWER:
            left_out[name] = "slower than the baseline here"
        elif kernel.target in chosen:
            left_out[name] = f"{chosen[kernel.target].name} stands for this target"
        else:
            chosen[kernel.target] = kernel
    return {target: kernel.plain() for target, kernel in chosen.items()}, left_out


def _one(setting: Setting, arm: str, kernels: dict[str, Any], seconds: float) -> dict[str, Any]:
    folder = setting.out / "train" / arm
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
