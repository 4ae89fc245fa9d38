"""The suite: every part in turn, each within its time, and what came of it in one JSON file.

    benchmarks/gpu.sh [--rehearse] [--out DIR] [--seconds 540] [--parts profile,verify,...] [--only TARGET,...]

A part that fails is told and the next one goes on. What the ledger knows already of a kernel is not repeated, so a
second call goes on where the first one's time was over. GPU_SH_BEGAN in the environment, in seconds since 1970: when
gpu.sh itself began, from which --seconds count. Exit code 0: it came to its end, whatever the parts found; 2: it could
not begin.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu import packages

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 540.0
BEGAN = "GPU_SH_BEGAN"


@dataclass(frozen=True)
class Part:
    """seconds: the most that a part may take; reserve: what earlier parts leave to it, also in s. needs: without these,
    where they were tried in this call, it is not begun."""

    name: str
    seconds: float
    reserve: float
    needs: tuple[str, ...] = ()


# What the others rest on comes first; bench before train, which takes the kernels that bench found FASTER; the tests
# last: what they find shows in the verdicts, too. The reserves fit into the time together, so each part gets its own.
PARTS = (
    Part("confined", 60, 25),
    Part("data", 60, 20),
    Part("profile", 150, 80, ("data",)),
    Part("verify", 190, 90, ("confined", "data")),
    Part("bench", 300, 110, ("confined", "data")),
    Part("train", 200, 120, ("data",)),
    Part("capture", 60, 30, ("data",)),
    Part("counters", 40, 15),
    Part("tests", 120, 20),
)


def main(arguments: list[str] | None = None) -> int:
    began = _began()
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
    from autoresearch_lab.errors import LabError, LabFailure
    from autoresearch_lab.ledger import commit_of
    from autoresearch_lab.paths import Root
    from benchmarks.gpu.evidence import pack, write_result
    from benchmarks.gpu.setting import Setting, rehearsal_root
    from benchmarks.gpu.summary import table

    if not options.rehearse and not has_nvidia_gpu():
        print("error: no NVIDIA GPU answers (nvidia-smi finds none); --rehearse runs on a CPU", file=sys.stderr)
        return 2
    out = options.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    root = rehearsal_root(out) if options.rehearse else Root()
    setting = Setting(out, root, options.rehearse, options.seconds, options.dataset, options.only, began)
    result: dict[str, Any] = {
        "schema": 1,
        "rehearsed": options.rehearse,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        # A machine that is lent may get the files without their history: then COMMIT says it.
        "commit": os.environ.get("COMMIT") or commit_of(CHECKOUT),
        "machine": machine(options.rehearse),
        "packages": found,
        "parts": {},
    }
    shutil.rmtree(setting.work, ignore_errors=True)  # what an earlier call left is not this one's
    try:
        # Asked once: the parts work in several threads.
        result["device_key"] = setting.device_key
    except (LabError, LabFailure) as failure:
        print(f"error: the GPU cannot be described: {failure}", file=sys.stderr)
        return 2
    # What has to be left out of the confinement is found anew in each call.
    judging = {"verify", "bench"} & set(options.parts)
    todo = [part for part in PARTS if part.name in options.parts or (part.name == "confined" and judging)]
    # In a shorter call, or where unpacking took long, every part is shorter.
    scale = min(1.0, setting.left / max(1.0, sum(part.reserve for part in todo)))
    done: dict[str, Any] = {}
    for number, part in enumerate(todo):
        limit = time_for(part, todo[number + 1 :], setting.left, scale)
        missing = [name for name in part.needs if name in result["parts"] and name not in done]
        told = _run(part, setting, limit, done) if not missing else _skipped(f"without {missing[0]} it cannot be done")
        result["parts"][part.name] = told
        print(
            f"{part.name:<9} {told['status']:<8} {told['seconds']:6.1f} s  {told['reason']}",
            file=sys.stderr,
            flush=True,
        )
        if told["found"] is not None:
            done[part.name] = told["found"]
        result["seconds"] = round(time.monotonic() - setting.began, 1)
        # After every part, so that a machine that goes away leaves what there is.
        result["left_out"] = pack(setting)
        write_result(setting, result)
    print(table(result))
    return 0


def time_for(part: Part, later: Sequence[Part], left: float, scale: float) -> float:
    """Seconds that a part may take of those that are left, so that each later one has `scale` times its reserve."""
    return min(part.seconds, left - scale * sum(one.reserve for one in later))


def _began() -> float:
    """When this call began, on the monotonic clock: with gpu.sh, whose unpacking of wheels counts, too."""
    stated = float(os.environ.pop(BEGAN, None) or time.time())
    return time.monotonic() - max(0.0, time.time() - stated)


def _run(part: Part, setting: Any, limit: float, done: dict[str, Any]) -> dict[str, Any]:
    """{"status": done, failed or skipped, "reason", "seconds", "found": what the part returned}."""
    from autoresearch_lab.errors import LabError, LabFailure
    from benchmarks.gpu.command import PartFailed

    if limit < 1.0:
        return _skipped("no time left")
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


def _skipped(reason: str) -> dict[str, Any]:
    return {"status": "skipped", "reason": reason, "seconds": 0.0, "found": None}


def _function(name: str) -> Callable[[Any, float, dict[str, Any]], dict[str, Any]]:
    from benchmarks.gpu import basics, confined, counters, training, verdicts

    return {
        "confined": lambda setting, seconds, done: confined.confined(setting, seconds),
        "data": lambda setting, seconds, done: basics.data(setting, seconds),
        "tests": lambda setting, seconds, done: basics.tests(setting, seconds),
        "profile": lambda setting, seconds, done: basics.profile(setting, seconds),
        "verify": lambda setting, seconds, done: verdicts.verify(setting, seconds),
        "bench": verdicts.bench,
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
    parser.add_argument("--rehearse", action="store_true", help="the same path on a CPU, small; no figures")
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
