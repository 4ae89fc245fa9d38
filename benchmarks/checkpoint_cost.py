"""What periodic checkpoints cost the training: the copy, and the steps that share the machine with the write.

    python benchmarks/checkpoint_cost.py --preset cpu-nano --checkpoints 8 --interval 60

A checkpoint is taken every `--apart` steps, so that the steps between serve as the comparison. The cost of one is the
time of its copy plus what the steps during its write took beyond the median of the others; the share is that over
`--interval`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from autoresearch_cuda import engine
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import open_dataset
from autoresearch_data.folders import dataset_folder
from autoresearch_trainer.checkpoint import Extra
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.process import QuietCollector, cpu_name
from autoresearch_trainer.saver import BackgroundSaver, Interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu-nano")
    parser.add_argument("--checkpoints", type=int, default=8)
    parser.add_argument("--apart", type=int, default=40, help="steps between two checkpoints")
    parser.add_argument("--interval", type=float, default=60.0, help="seconds between checkpoints in real use")
    parser.add_argument("--folder", type=Path, help="where to write them [default: a temporary folder]")
    parser.add_argument("--data", type=Path, default=dataset_folder("stdlib"))
    args = parser.parse_args()
    prepare_process()
    steps = args.checkpoints * args.apart + args.apart // 2
    config = TrainConfig.for_preset(args.preset, steps=steps)
    trainer = Trainer(config, Ops.baseline(), open_dataset(args.data))
    quiet: list[float] = []
    during: list[float] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder, QuietCollector() as collector:
        with BackgroundSaver(engine, Path(folder) / "checkpoint", Interval(steps=args.apart)) as saver:
            for step in range(steps):
                writing = saver.writing
                started = time.perf_counter()
                trainer.step()
                if step > 11:
                    (during if writing else quiet).append(time.perf_counter() - started)
                collector.after_step(step)
                saver.after_step(trainer, Extra)
    costs, typical = saver.costs, sorted(quiet)[len(quiet) // 2]
    copy, write = costs.copy_seconds / costs.written, costs.write_seconds / costs.written
    slowed = sum(seconds - typical for seconds in during) / costs.written
    share = (copy + max(slowed, 0.0)) / args.interval
    report = {
        "machine": cpu_name(),
        "preset": args.preset,
        "checkpoints": costs.written,
        "megabytes": costs.bytes / 1e6,
        "step_ms": 1e3 * typical,
        "copy_ms": 1e3 * copy,
        "write_ms": 1e3 * write,
        "slowed_ms": 1e3 * slowed,
        "share_percent": 100 * share,
        "interval_seconds": args.interval,
    }
    print(json.dumps(report, indent=1))
    verdict = "under" if share < 0.01 else "NOT under"
    print(
        f"{100 * share:.3f} % of the time at one checkpoint per {args.interval:.0f} s: {verdict} 1 %", file=sys.stderr
    )


if __name__ == "__main__":
    main()
