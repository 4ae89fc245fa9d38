"""One capture with PyTorch's profiler, in a process of its own: python -m benchmarks.gpu.trace REQUEST.json

The request is that of `steps`, with "trace": the file to write. Traced and attributed as the verbs `capture` and
`trace-profile` do it, with the suite's own configuration and few steps. Prints JSON: {"steps", "ranges": {name:
{"calls", "us": per step}}, "kernels": the busiest of the device, "total_us" per step}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autoresearch_cuda.ops import Ops
from autoresearch_cuda.probe.ranges import Ranges
from autoresearch_cuda.probe.trace import TorchProfiler, traced_steps
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import open_dataset
from autoresearch_lab.trace import chrome
from autoresearch_lab.trace.attribute import attribute
from autoresearch_trainer.probe.ranges import backward_of
from benchmarks.gpu.steps import configuration

WARM_UP, STEPS, SECONDS = 3, 2, 30.0


def capture(request: dict[str, Any]) -> dict[str, Any]:
    """Uncompiled, since a compiled graph has no calls of targets in it."""
    prepare_process()
    config = replace(configuration(request), compile=False)
    device, path = torch.device(request["device"]), Path(request["trace"])
    recorder = TorchProfiler(device, path)
    ops = Ops.load(request["selection"], wrap=Ranges(recorder.push, recorder.pop))
    trainer = Trainer(config, ops, open_dataset(Path(request["dataset"])), device)
    for _ in range(1 if request["small"] else WARM_UP):
        trainer.step()
    taken = traced_steps(trainer, recorder, 1 if request["small"] else STEPS, SECONDS, lambda _: None)
    return told(attribute(chrome.read(path, on_gpu=device.type == "cuda"), len(taken)))


def told(found: dict[str, Any]) -> dict[str, Any]:
    """What the suite reports of an attribution: microseconds per step, forward (or optimizer) and backward apart."""
    ranges: dict[str, dict[str, float]] = {}
    for row in found["targets"]:
        calls = row["calls_per_step"]
        ranges[row["target"]] = {"calls": calls, "us": 1e3 * (row["forward_ms"] + row["optimizer_ms"])}
        if row["backward_ms"]:
            ranges[backward_of(row["target"])] = {"calls": calls, "us": 1e3 * row["backward_ms"]}
    return {
        "steps": found["steps"],
        "ranges": dict(sorted(ranges.items(), key=lambda pair: -pair[1]["us"])),
        "kernels": [{"name": kernel["name"], "us": 1e3 * kernel["ms"]} for kernel in found["kernels"]],
        "total_us": 1e3 * found["device_ms"],
    }


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(capture(request)))


if __name__ == "__main__":
    main()
