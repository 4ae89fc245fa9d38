"""One capture with PyTorch's profiler, in a process of its own: python -m benchmarks.gpu.trace REQUEST.json

The request is that of `steps`, with "trace": the file to write. Every call of a target and every autograd node behind
it is a range, `rms_norm` and `rms_norm backward`; what ran on the device under a range is its time. Prints JSON:
{"steps", "ranges": {name: {"calls", "us": per step}}, "kernels": the busiest of the device, "total_us" per step}.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from autoresearch_cuda.ops import Ops
from autoresearch_cuda.probe.ranges import Ranges
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.seam import TARGETS
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import open_dataset
from benchmarks.gpu.steps import configuration

WARM_UP, STEPS, BUSIEST = 3, 2, 25


class _Open(threading.local):
    """The ranges that are open in this thread: autograd runs a GPU's nodes in one of its own."""

    def __init__(self) -> None:
        self.ranges: list[record_function] = []

    def push(self, name: str) -> None:
        entered = record_function(name)
        entered.__enter__()
        self.ranges.append(entered)

    def pop(self) -> None:
        self.ranges.pop().__exit__(None, None, None)


def capture(request: dict[str, Any]) -> dict[str, Any]:
    """Uncompiled, since a compiled graph has no calls of targets in it."""
    prepare_process()
    config = replace(configuration(request), compile=False)
    opened = _Open()
    ops = Ops.load(request["selection"], wrap=Ranges(opened.push, opened.pop))
    trainer = Trainer(config, ops, open_dataset(Path(request["dataset"])), request["device"])
    for _ in range(1 if request["small"] else WARM_UP):
        trainer.step()
    on_gpu = request["device"] == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    steps = 1 if request["small"] else STEPS
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            trainer.step()
    profiler.export_chrome_trace(request["trace"])
    return {"steps": steps, **attribute(profiler.events(), on_gpu, steps)}


def attribute(events: Any, on_gpu: bool, steps: int) -> dict[str, Any]:
    """Sum up what ran under every range; nested ranges (a part of a composite) count in both."""
    names = {name + suffix for name in TARGETS for suffix in ("", " backward")}
    ranges: dict[str, dict[str, float]] = defaultdict(lambda: {"calls": 0.0, "us": 0.0})
    busy: dict[str, float] = defaultdict(float)
    for event in events:
        on_device = event.device_type != torch.autograd.DeviceType.CPU
        if event.name in names and not on_device:
            ranges[event.name]["calls"] += 1 / steps
            ranges[event.name]["us"] += (event.device_time_total if on_gpu else event.cpu_time_total) / steps
        elif on_device and not event.is_user_annotation:
            busy[event.name] += event.device_time_total / steps
        elif not on_gpu and not on_device and not event.cpu_children:
            busy[event.name] += event.cpu_time_total / steps
    top = sorted(busy.items(), key=lambda pair: -pair[1])[:BUSIEST]
    return {
        "ranges": dict(sorted(ranges.items(), key=lambda pair: -pair[1]["us"])),
        "kernels": [{"name": name[:160], "us": us} for name, us in top],
        "total_us": sum(busy.values()),
    }


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(capture(request)))


if __name__ == "__main__":
    main()
