"""One training of the suite, in a process of its own: python -m benchmarks.gpu.steps REQUEST.json

The request: {"device", "preset", "small", "steps", "eval_tokens", "dataset": folder, "selection": {target: kernel},
"out": folder, "peak_flops"}. Prints the run's summary as JSON: val_bpb, tokens_per_second, peak_vram_mb, MFU.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoresearch_cuda import engine
from autoresearch_data.dataset import open_dataset
from autoresearch_trainer.config import TrainConfig, preset
from autoresearch_trainer.loop import run
from autoresearch_trainer.memory import fit_batch

# Of a rehearsal: a single sequence per step.
SMALL_TOKENS = 256


def configuration(request: dict[str, Any]) -> TrainConfig:
    """The preset with the batch that fits, compiled; in a rehearsal one sequence at a time, uncompiled."""
    name, steps = request["preset"], request["steps"]
    if request["small"]:
        base = TrainConfig.for_preset(name, steps=steps)
        short = replace(base.model, sequence_len=SMALL_TOKENS)
        return replace(base, model=short, batch_size=1, total_batch_tokens=SMALL_TOKENS, eval_tokens=SMALL_TOKENS)
    base = TrainConfig.for_preset(name, steps=steps, compile=True, peak_flops=request["peak_flops"])
    device = request["device"]
    fitted = fit_batch(base, preset(name), device, engine.available_bytes(device)).config
    tokens = max(fitted.eval_batch_tokens, request["eval_tokens"])
    return replace(fitted, eval_tokens=tokens)


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    config = configuration(request)
    dataset = open_dataset(Path(request["dataset"]))
    record = run(engine, config, request["selection"], dataset, Path(request["out"]), device=request["device"])
    chosen = {target: about["name"] for target, about in record["kernels"].items() if target in request["selection"]}
    print(
        json.dumps(
            {
                **record["summary"],
                "kernels": chosen,
                "compiled": config.compile,
                "batch_size": config.batch_size,
                "tokens_per_step": config.total_batch_tokens,
                "attention": record["attention"],
                "last_losses": record["losses"][-5:],
            }
        )
    )


if __name__ == "__main__":
    main()
