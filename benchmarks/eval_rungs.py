"""How far the cheaper evaluations are from the full one: measured on several short trainings.

    python benchmarks/eval_rungs.py --preset cpu-nano --seeds 3 --marks 100,200,400 --json rungs.json

Every training is evaluated on the whole split at each mark, row by row; the rungs are then read off those rows, once as
rows at equal distances (what the rungs are) and once as the first rows. Two errors are given: of the level of val_bpb,
and of the difference between two models, which is what comparisons rest on and where most of the first one cancels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from autoresearch_cuda.evaluate import BatchLosses
from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import Dataset, open_dataset
from autoresearch_data.folders import dataset_folder
from autoresearch_trainer.config import TrainConfig, preset
from autoresearch_trainer.evaluate import Rows, evaluate_rows, spread
from autoresearch_trainer.process import QuietCollector, cpu_name
from autoresearch_trainer.rungs import RUNGS, full_tokens, limited, rung_tokens


def root_mean_square(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))


def collect(
    name: str, seeds: int, marks: list[int], dataset: Dataset
) -> tuple[list[Rows], list[float], dict[str, int]]:
    """Rows of the full evaluation of every model, the seconds each took, and the tokens of the rungs."""
    base = preset(name)
    length, batch = base.model.sequence_len, base.batch_size
    whole = full_tokens(dataset, length, batch * length)
    tokens = {rung: limited(rung_tokens(base, rung), whole, batch * length) for rung in RUNGS}
    models, seconds = [], []
    for seed in range(seeds):
        trainer = Trainer(TrainConfig.for_preset(name, steps=max(marks), seed=seed), Ops.baseline(), dataset)
        with QuietCollector() as collector:
            for step in range(max(marks)):
                trainer.step()
                collector.after_step(step)
                if step + 1 in marks:
                    started = time.perf_counter()
                    losses = BatchLosses(trainer.model, batch)
                    models.append(evaluate_rows(losses, dataset, batch, length, range(whole // length)))
                    seconds.append(time.perf_counter() - started)
                    bpb = models[-1].result().val_bpb
                    print(f"seed {seed}, {step + 1} steps: val_bpb {bpb:.4f}", file=sys.stderr, flush=True)
    return models, seconds, tokens


@dataclass(frozen=True)
class RungError:
    """How far one rung is off, in bits per byte. rows: which were taken. difference_rms: None of a single model."""

    rung: str
    rows: str
    tokens: int
    level_rms: float
    level_worst: float
    difference_rms: float | None
    standard_error: float


def errors(models: list[Rows], tokens: dict[str, int]) -> list[RungError]:
    """Per rung and way of choosing rows: errors of levels, and of the differences between all pairs of models."""
    total = len(models[0].nats)
    full = [rows.result().val_bpb for rows in models]
    table = []
    for rung, count in tokens.items():
        number = count // models[0].sequence_len
        for way, chosen in (("spread", spread(number, total)), ("first rows", list(range(number)))):
            level = [rows.result(chosen).val_bpb - whole for rows, whole in zip(models, full, strict=True)]
            difference = [a - b for a, b in itertools.combinations(level, 2)]
            standard = [rows.result(chosen).standard_error or 0.0 for rows in models]
            table.append(
                RungError(
                    rung=rung,
                    rows=way,
                    tokens=count,
                    level_rms=root_mean_square(level),
                    level_worst=max(map(abs, level)),
                    difference_rms=root_mean_square(difference) if difference else None,
                    standard_error=sum(standard) / len(standard),
                )
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu-nano")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--marks", default="100,200,400", help="steps after which a training is evaluated")
    parser.add_argument("--data", type=Path, default=dataset_folder("stdlib"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    prepare_process()
    dataset = open_dataset(args.data)
    models, seconds, tokens = collect(args.preset, args.seeds, [int(m) for m in args.marks.split(",")], dataset)
    table = errors(models, tokens)
    per_token = sum(seconds) / len(seconds) / tokens["full"]
    print("| rung | rows | tokens | seconds | error of the level (rms, worst) | error of a difference (rms) |")
    print("|---|---|---|---|---|---|")
    for row in table:
        difference = f"{row.difference_rms:.4f}" if row.difference_rms is not None else "-"
        print(
            f"| {row.rung} | {row.rows} | {row.tokens:,} | {per_token * row.tokens:.1f} "
            f"| {row.level_rms:.4f}, {row.level_worst:.4f} | {difference} |"
        )
    print(f"\n{args.preset}, {len(models)} models, dataset {dataset.fingerprint[:12]}, {cpu_name()}")
    if args.json:
        report = {
            "preset": args.preset,
            "dataset": dataset.fingerprint,
            "machine": cpu_name(),
            "table": [asdict(row) for row in table],
        }
        args.json.write_text(json.dumps({**report, "seconds": seconds}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
