"""Tokens per second of this trainer beside a straightforward restatement of the same model, both eager and compiled.

    python benchmarks/trainer_speed.py --presets cpu-nano,cpu-tiny --processes 3 --seconds 40 --json speed.json
    python benchmarks/trainer_speed.py --kernels softcap_cross_entropy=cpp_fused,rms_norm=cpp_fused

With --kernels the trainer also trains with those ("kernels eager", "kernels compiled"); the faster of the two is what
`train.py --compile auto` takes ("default run"). The floor is the time that the products of a step take at the rate at
which this machine multiplies large bfloat16 matrices, measured in the same run; an arm's share of it says how near it
is.

All arms train in one process
on the same data, with the same allocator settings and threads, in blocks of steps that take turns in random order; a
ratio is taken between blocks of one round. Levels differ between fresh processes, so the process is the unit: the table
gives the mean over processes of the median ratio, and its 95 % t interval.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from restated_model import RestatedGPT, RestatedOptimizer
from scipy import stats

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.probe.ceilings import matmul_rate
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import Dataset, open_dataset
from autoresearch_data.folders import dataset_folder
from autoresearch_data.packing import BestFitLoader
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.paths import Root
from autoresearch_lab.promote.selection import resolve
from autoresearch_trainer.config import VALUE_GATE_CHANNELS, TrainConfig
from autoresearch_trainer.process import QuietCollector, cpu_name

ARMS = ("trainer eager", "trainer compiled", "restated eager", "restated compiled")
KERNEL_ARMS = ("kernels eager", "kernels compiled")
DEFAULT = "default run"
RATIOS = (
    ("trainer compiled", "restated compiled"),
    ("trainer compiled", "restated eager"),
    ("trainer eager", "restated eager"),
    ("trainer eager", "restated compiled"),
    ("trainer compiled", "trainer eager"),
    ("kernels eager", "trainer eager"),
    ("kernels compiled", "trainer compiled"),
    ("kernels compiled", "kernels eager"),
    (DEFAULT, "trainer compiled"),
    (DEFAULT, "restated compiled"),
)
WARM_UP = 12


def trainer_step(config: TrainConfig, dataset: Dataset, kernels: str = "baseline") -> Callable[[], float]:
    root = Root()
    selection = resolve(kernels, load_catalog(root), ENGINES["cpu"], root).plain()
    trainer = Trainer(config, Ops.load(selection), dataset)
    return lambda: trainer.step().loss


def restated_step(config: TrainConfig, dataset: Dataset) -> Callable[[], float]:
    """A step of the restatement, packing included. The presets compared here need no accumulation."""
    shape = config.model
    torch.manual_seed(config.seed)
    model = RestatedGPT(shape.vocab_size, shape.sequence_len, shape.n_embd, shape.n_head, shape.windows())
    optimizer = RestatedOptimizer(model, shape.n_embd)
    forward = torch.compile(model, dynamic=False) if config.compile else model
    bos = dataset.tokenizer.bos_id
    loader = BestFitLoader(dataset.split("train"), config.batch_size, shape.sequence_len, bos)

    def step() -> float:
        inputs, targets, _ = next(loader)
        model.zero_grad(set_to_none=True)
        loss = forward(torch.from_numpy(inputs).long(), torch.from_numpy(targets).long())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def products(config: TrainConfig) -> dict[str, float]:
    """FLOP of one step's matrix products, forward and backward: {term: FLOP}.

    A linear layer has one product forward and two of the same size backward. Attention counts the pairs of query and
    key that the window admits: two products forward and five backward. Newton-Schulz: 5 iterations, the two symmetric
    products of each by half.
    """
    shape, tokens = config.model, config.total_batch_tokens
    width, kv_width = shape.n_embd, shape.n_kv_head * shape.head_dim
    gate = (shape.n_kv_head, VALUE_GATE_CHANNELS)
    block = [
        (width, width),
        (kv_width, width),
        (kv_width, width),
        (width, width),
        (4 * width, width),
        (width, 4 * width),
    ]
    matrices = block * shape.n_layer + [gate] * len(shape.value_embed_layers())
    sequences = tokens // shape.sequence_len
    pairs = sum(min(seen, window) + 1 for window in shape.windows() for seen in range(shape.sequence_len))
    sides = [(min(matrix), max(matrix)) for matrix in matrices]
    return {
        "head": 6.0 * tokens * shape.vocab_size * width,
        "layers": 6.0 * tokens * sum(rows * columns for rows, columns in matrices),
        "attention in its window": 14.0 * sequences * shape.n_head * shape.head_dim * pairs,
        "Newton-Schulz": 5.0 * sum(3 * short**2 * long + short**3 for short, long in sides),
    }


def measure(
    preset: str, arms: list[str], seconds: float, block: int, seed: int, dataset: Dataset, kernels: str
) -> dict[str, Any]:
    """One process: {"blocks": {arm: [seconds per block]}, "losses": {arm: last}, "tokens_per_block", "setup", "rate":
    of large products in FLOP/s}."""
    process = prepare_process()
    steps, setup, losses = {}, {}, {}
    for arm in arms:
        started = time.perf_counter()
        config = TrainConfig.for_preset(preset, steps=10**6, seed=42, compile=arm.endswith("compiled"))
        if config.accumulation != 1:
            raise SystemExit(f"error: preset {preset} accumulates; compare cpu-nano and cpu-tiny")
        if arm.startswith("restated"):
            steps[arm] = restated_step(config, dataset)
        else:
            steps[arm] = trainer_step(config, dataset, kernels if arm in KERNEL_ARMS else "baseline")
        for _ in range(WARM_UP):
            losses[arm] = steps[arm]()
        setup[arm] = time.perf_counter() - started
        print(f"{preset} {arm}: ready after {setup[arm]:.1f} s", file=sys.stderr, flush=True)
    blocks: dict[str, list[float]] = {arm: [] for arm in arms}
    order, end = random.Random(seed), time.perf_counter() + seconds
    with QuietCollector() as collector:
        collector.after_step(0)
        while time.perf_counter() < end:
            for arm in order.sample(arms, len(arms)):
                started = time.perf_counter()
                for _ in range(block):
                    losses[arm] = steps[arm]()
                blocks[arm].append(time.perf_counter() - started)
    if bad := [arm for arm, loss in losses.items() if not 0 < loss < 9.5]:
        raise SystemExit(f"error: {', '.join(bad)} did not learn; the comparison would be of nothing")
    tokens = block * config.total_batch_tokens
    rate = matmul_rate(torch.bfloat16, torch.device("cpu")) or matmul_rate(torch.float32, torch.device("cpu"))
    return {
        "rate": rate,
        "blocks": blocks,
        "losses": losses,
        "tokens_per_block": tokens,
        "setup": setup,
        "process": process,
    }


def in_fresh_processes(args: argparse.Namespace, preset: str) -> list[dict[str, Any]]:
    """The measurements of `processes` children, one after the other."""
    results = []
    for number in range(args.processes):
        command = [sys.executable, __file__, "--child", preset, "--seed", str(args.seed + number)]
        command += ["--seconds", str(args.seconds), "--block", str(args.block), "--arms", args.arms]
        command += ["--data", str(args.data), "--kernels", args.kernels]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"error: a measuring process ended with exit code {done.returncode}")
        results.append(json.loads(done.stdout))
    return results


def interval(values: list[float]) -> tuple[float, float] | None:
    """95 % t interval of the mean of logarithms, as ratios; None for a single one."""
    if len(values) < 2:
        return None
    logs = [math.log(value) for value in values]
    mean, error = sum(logs) / len(logs), stats.sem(logs)
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * float(error)
    return math.exp(mean - half), math.exp(mean + half)


def summarise(results: list[dict[str, Any]], arms: list[str]) -> dict[str, Any]:
    def rate(arm: str) -> float:
        return median([r["tokens_per_block"] / median(r["blocks"][arm]) for r in results])

    if set(KERNEL_ARMS) <= set(arms):
        default = max(KERNEL_ARMS, key=rate)
        results = [{**r, "blocks": {**r["blocks"], DEFAULT: r["blocks"][default]}} for r in results]
        arms = [*arms, DEFAULT]
    speed = {arm: rate(arm) for arm in arms}
    ratios = {}
    for ours, theirs in RATIOS:
        if ours in arms and theirs in arms:
            pairs = [zip(r["blocks"][theirs], r["blocks"][ours], strict=True) for r in results]
            each = [median([slow / fast for slow, fast in pair]) for pair in pairs]
            mean = math.exp(sum(map(math.log, each)) / len(each))
            ratios[f"{ours} / {theirs}"] = {"ratio": mean, "interval": interval(each), "processes": each}
    return {"tokens_per_second": speed, "ratios": ratios}


def floor(config: TrainConfig, rate: float) -> dict[str, Any]:
    """The least time of a step's products at `rate` FLOP/s: terms in ms, and the tokens per second that would be."""
    terms = {name: flop / rate * 1e3 for name, flop in products(config).items()}
    return {
        "gflop_s": rate / 1e9,
        "ms": terms,
        "tokens_per_second": config.total_batch_tokens / sum(terms.values()) * 1e3,
    }


def lines(preset: str, summary: dict[str, Any]) -> list[str]:
    least = summary["floor"]
    text = [f"{preset}", "", f"{'arm':<40}tokens/s  share of the floor"]
    for arm, speed in summary["tokens_per_second"].items():
        text.append(f"{arm:<40}{speed:8,.0f}  {speed / least['tokens_per_second']:7.1%}")
    terms = ", ".join(f"{name} {ms:.1f}" for name, ms in least["ms"].items())
    text += [
        f"{'floor':<40}{least['tokens_per_second']:8,.0f}  ms per step: {terms}; at {least['gflop_s']:,.0f} GFLOP/s"
    ]
    text += ["", f"{'paired ratio of speeds':<40}{'mean':>8}  95 % interval over processes"]
    for name, found in summary["ratios"].items():
        low_high = found["interval"]
        shown = f"{low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else "- (one process)"
        text.append(f"{name:<40}{found['ratio']:8.3f}  {shown}")
    return [*text, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", default="cpu-nano,cpu-tiny")
    parser.add_argument("--arms", help="some of them, separated by commas [default: all]")
    parser.add_argument("--kernels", default="", help="target=kernel,... or promoted: two more arms train with these")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0, help="of measuring, per process and preset")
    parser.add_argument("--block", type=int, default=5, help="steps per block")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=dataset_folder("stdlib"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", metavar="PRESET", help=argparse.SUPPRESS)
    args = parser.parse_args()
    known = [*ARMS, *(KERNEL_ARMS if args.kernels else ())]
    arms = args.arms.split(",") if args.arms else known
    if unknown := set(arms) - set(known):
        raise SystemExit(f"error: unknown arm {', '.join(unknown)}; known: {', '.join(known)}")
    args.arms = ",".join(arms)
    if args.child:
        dataset = open_dataset(args.data)
        print(json.dumps(measure(args.child, arms, args.seconds, args.block, args.seed, dataset, args.kernels)))
        return
    report: dict[str, Any] = {"machine": cpu_name(), "torch": torch.__version__, "presets": {}}
    for preset in args.presets.split(","):
        results = in_fresh_processes(args, preset)
        best = max(result["rate"] for result in results)
        summary = {**summarise(results, arms), "floor": floor(TrainConfig.for_preset(preset, steps=1), best)}
        report["presets"][preset] = {**summary, "raw": results}
        print("\n".join(lines(preset, summary)), flush=True)
    print(f"{report['machine']}, torch {torch.__version__}, {results[0]['process']['threads']} threads")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
