"""The suite: every part in turn, each within its time, and what came of it in one JSON file.

    benchmarks/gpu.sh [--rehearse] [--out DIR] [--seconds 540] [--parts profile,verify,...] [--only TARGET,...]

A part that fails is told and the next one goes on. What the ledger knows already of a kernel is not repeated, so a
second call goes on where the first one's time was over. Exit code 0: it came to its end, whatever the parts found; 2:
it could not begin.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu import packages

CHECKOUT = Path(__file__).resolve().parents[2]
RESULT = "gpu.json"
SECONDS = 540.0


@dataclass(frozen=True)
class Part:
    """seconds: the most that a part may take; reserve: what earlier parts leave to it."""

    name: str
    seconds: float
    reserve: float


PARTS = (
    Part("data", 60, 0),
    Part("tests", 75, 20),
    Part("profile", 75, 40),
    Part("verify", 150, 60),
    Part("bench", 240, 80),
    Part("train", 200, 130),
    Part("capture", 60, 35),
    Part("counters", 40, 15),
)


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    found = packages.look()
    for line in found["optional"]:
        print(f"not here: {line}", file=sys.stderr)
    if found["missing"]:
        print(
            f"error: packages are missing: {', '.join(found['missing'])} (docs/cuda.md, A GPU at hand)", file=sys.stderr
        )
        return 2
    # Only now: the lab itself needs packages.
    from autoresearch_lab.engine import has_nvidia_gpu
    from autoresearch_lab.paths import Root
    from benchmarks.gpu.report import bring_back, table
    from benchmarks.gpu.setting import Setting, rehearsal_root

    if not options.rehearse and not has_nvidia_gpu():
        print("error: no NVIDIA GPU answers (nvidia-smi finds none); --rehearse runs on a CPU", file=sys.stderr)
        return 2
    out = options.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    root = rehearsal_root(out) if options.rehearse else Root()
    setting = Setting(out, root, options.rehearse, options.seconds, options.dataset, options.only)
    result: dict[str, Any] = {
        "schema": 1,
        "rehearsed": options.rehearse,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(options.rehearse),
        "packages": found,
        "parts": {},
    }
    scale = min(1.0, options.seconds / SECONDS)  # in a shorter call everything is shorter
    todo = [part for part in PARTS if part.name in options.parts]
    done: dict[str, Any] = {}
    for number, part in enumerate(todo):
        limit = min(part.seconds, setting.left - scale * sum(later.reserve for later in todo[number + 1 :]))
        result["parts"][part.name] = told = _run(part, setting, limit, done)
        print(
            f"{part.name:<9} {told['status']:<8} {told['seconds']:6.1f} s  {told['reason']}",
            file=sys.stderr,
            flush=True,
        )
        if told["found"] is not None:
            done[part.name] = told["found"]
        result["seconds"] = round(time.monotonic() - setting.began, 1)
        # After every part, so that a machine that goes away leaves what there is.
        (out / RESULT).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not options.rehearse:
        bring_back(setting)
    print(table(result))
    return 0


def _run(part: Part, setting: Any, limit: float, done: dict[str, Any]) -> dict[str, Any]:
    """{"status": done, failed or skipped, "reason", "seconds", "found": what the part returned}."""
    from autoresearch_lab.errors import LabError, LabFailure
    from benchmarks.gpu.command import PartFailed

    if limit < 1.0:
        return {"status": "skipped", "reason": "no time left", "seconds": 0.0, "found": None}
    began = time.monotonic()
    told: dict[str, Any] = {"status": "done", "reason": "", "found": None}
    try:
        told["found"] = _function(part.name)(setting, limit, done)
    except (PartFailed, LabError, LabFailure) as failure:
        told |= {"status": "failed", "reason": " ".join(str(failure).split())}
    except Exception as error:  # whatever goes wrong in one part, the minutes of the others are not given away
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        told |= {"status": "failed", "reason": " ".join(words.split())[:400]}
    return {**told, "seconds": round(time.monotonic() - began, 1)}


def _function(name: str) -> Callable[[Any, float, dict[str, Any]], dict[str, Any]]:
    from benchmarks.gpu import basics, counters, training, verdicts

    return {
        "data": lambda setting, seconds, done: basics.data(setting, seconds),
        "tests": lambda setting, seconds, done: basics.tests(setting, seconds),
        "profile": lambda setting, seconds, done: basics.profile(setting, seconds),
        "verify": lambda setting, seconds, done: verdicts.verify(setting, seconds),
        "bench": lambda setting, seconds, done: verdicts.bench(setting, seconds),
        "train": training.train,
        "capture": counters.capture,
        "counters": counters.counters,
    }[name]


def machine(rehearse: bool) -> dict[str, Any]:
    """What it ran on, for people; the records carry the identity that counts."""
    import torch

    from autoresearch_cuda.process import describe_device, describe_software

    device = torch.device("cpu" if rehearse or not torch.cuda.is_available() else "cuda")
    return {**describe_device(device), "software": describe_software(), "cuda": torch.version.cuda}


def _options(arguments: list[str] | None) -> argparse.Namespace:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="the same path on a CPU, small; nothing is timed")
    default = os.environ.get("OUT") or CHECKOUT / "results" / "gpu" / time.strftime("%Y%m%d-%H%M%S")
    parser.add_argument(
        "--out", type=Path, default=Path(default), help="folder of the result [default: $OUT, or results/gpu/...]"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the whole call [default: 540]")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=names, help=f"of {','.join(names)}")
    parser.add_argument(
        "--only", type=lambda text: tuple(text.split(",")), help="targets [default: all with a Triton kernel]"
    )
    parser.add_argument("--dataset", default="stdlib", help="prepared dataset to train on [default: stdlib]")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(names):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
