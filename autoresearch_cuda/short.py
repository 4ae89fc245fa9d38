"""One short training, or PyTorch's profiler over one, in a process of its own: python -m autoresearch_cuda.short FILE

FILE holds JSON: {"device", "preset", "small", "steps", "eval_tokens", "dataset": folder, "selection": {target: kernel},
"out": folder, "peak_flops", "trace": file for the profiler to write, or null}. Prints JSON: of a training its summary
(val_bpb, tokens_per_second, peak_vram_mb, MFU), of a trace {"steps": how many were traced}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autoresearch_cuda import engine
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.plan import available_bytes
from autoresearch_cuda.probe.ranges import Ranges
from autoresearch_cuda.probe.trace import TorchProfiler, traced_steps
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import open_dataset
from autoresearch_trainer.config import TrainConfig, preset
from autoresearch_trainer.loop import run
from autoresearch_trainer.memory import fit_batch

# Of what is small: a single sequence per step.
SMALL_TOKENS = 256
WARM_UP, TRACED_STEPS, TRACED_SECONDS = 3, 2, 30.0


def configuration(request: Mapping[str, Any]) -> TrainConfig:
    """The preset with the batch that fits, compiled; where it is to be small one sequence at a time, which on a CPU
    compiling would take longer than all the rest."""
    name, steps = request["preset"], request["steps"]
    if request["small"]:
        base = TrainConfig.for_preset(name, steps=steps, compile=request["device"] == "cuda")
        short = replace(base.model, sequence_len=SMALL_TOKENS)
        return replace(base, model=short, batch_size=1, total_batch_tokens=SMALL_TOKENS, eval_tokens=SMALL_TOKENS)
    base = TrainConfig.for_preset(name, steps=steps, compile=True, peak_flops=request["peak_flops"])
    device = request["device"]
    fitted = fit_batch(base, preset(name), device, available_bytes(device)).config
    tokens = max(fitted.eval_batch_tokens, request["eval_tokens"])
    return replace(fitted, eval_tokens=tokens)


def train(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The summary of a whole run."""
    config = configuration(request)
    dataset = open_dataset(Path(request["dataset"]))
    record = run(engine, config, request["selection"], dataset, Path(request["out"]), device=request["device"])
    chosen = {target: about["name"] for target, about in record["kernels"].items() if target in request["selection"]}
    return {
        **record["summary"],
        "kernels": chosen,
        "compiled": config.compile,
        "batch_size": config.batch_size,
        "tokens_per_step": config.total_batch_tokens,
        "attention": record["attention"],
        "last_losses": record["losses"][-5:],
    }


def trace(request: Mapping[str, Any]) -> Mapping[str, int]:
    """Few steps, uncompiled, since a compiled graph has no calls of targets in it."""
    prepare_process()
    config = replace(configuration(request), compile=False)
    device = torch.device(request["device"])
    recorder = TorchProfiler(device, Path(request["trace"]))
    ops = Ops.load(request["selection"], wrap=Ranges(recorder.push, recorder.pop))
    trainer = Trainer(config, ops, open_dataset(Path(request["dataset"])), device)
    for _ in range(1 if request["small"] else WARM_UP):
        trainer.step()
    steps = 1 if request["small"] else TRACED_STEPS
    return {"steps": len(traced_steps(trainer, recorder, steps, TRACED_SECONDS, lambda _: None))}


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(trace(request) if request["trace"] else train(request)))


if __name__ == "__main__":
    main()
