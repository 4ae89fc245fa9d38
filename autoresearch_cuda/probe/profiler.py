"""Job `profile`: runs the real trainer, says where its steps spend their time, and captures the targets' workloads.

Warm-up steps come first; the step after them is captured; then plain steps alternate with instrumented ones. The plain
ones say how long a step takes, the instrumented ones where the time goes. Nothing is scaled to fit: that the two agree
is checked and stated.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.model import Linear
from autoresearch_cuda.probe import Report
from autoresearch_cuda.probe.attribution import Recorder, Share, StepRecord, watched
from autoresearch_cuda.probe.capture import Capture
from autoresearch_cuda.probe.clocks import HostClock, StreamClock
from autoresearch_cuda.probe.ranges import Ranges
from autoresearch_cuda.process import prepare_process
from autoresearch_cuda.train import Trainer
from autoresearch_data.dataset import Dataset, open_dataset
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.base import Selection, facts
from autoresearch_trainer.jobs.tracing import ElsewhereShare, ProfileAnswer, ProfileArgs, StepTimes, TargetInfo
from autoresearch_trainer.probe.steps import PHASES, RUN_STEPS, step_times, target_share
from autoresearch_trainer.probe.words import trained
from autoresearch_trainer.process import QuietCollector

# Long enough that the projections that start at zero have grown, and that allocator and caches have settled. Fixed, so
# that every profile of the same training captures the same values.
WARMUP_STEPS = 12
# Parts of the model outside every target, shown so that the rest has names: class -> label.
ELSEWHERE = {Linear: "linear layers", nn.Embedding: "embedding tables"}
SUM_TOLERANCE = 0.05
EXTRA_ROUNDS = 2
# Where steps are slow, fewer pairs are measured than were asked for.
SECONDS, LEAST_PAIRS = 60.0, 4


def run(args: ProfileArgs, run_dir: Path, report: Report) -> ProfileAnswer:
    """Profile the trainer; samples of the workloads go into run_dir/samples.

    Raises ConfigError, KernelError or NoDataset for a request that cannot be served.
    """
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("PyTorch reaches no CUDA device (no GPU, no driver, or a CPU build of torch)")
    config = TrainConfig.for_preset(args.preset, steps=RUN_STEPS, seed=args.seed)
    dataset = open_dataset(Path(args.dataset_dir))
    environment = prepare_process()
    session = _Session(config, args.targets, args.selection, dataset, device)
    with QuietCollector() as collector:
        session.warm_up(WARMUP_STEPS if args.warmup is None else args.warmup, collector, report)
        return ProfileAnswer(
            **trained(dataset, session.trainer.ops.kernels),
            device=device.type,
            workloads=session.capture.write(run_dir / "samples"),
            environment=facts(environment),
            times=session.measure(args.steps, report) if args.steps else None,
        )


class _Session:
    """A trainer whose seam calls can be captured and measured."""

    def __init__(
        self,
        config: TrainConfig,
        targets: Mapping[str, TargetInfo],
        selection: Selection,
        dataset: Dataset,
        device: torch.device,
    ) -> None:
        self.targets = targets
        self.capture = Capture(targets)
        self.recorder = Recorder(StreamClock() if device.type == "cuda" else HostClock())
        # What the wrapped calls do at the moment: capture before the captured step, capture in it, or neither.
        self._capturing: str | None = "before"
        self._ranges = Ranges.available() if device.type == "cuda" else None
        self.trainer = Trainer(config, Ops.load(selection, self._wrap), dataset, device)
        trainer: Any = self.trainer  # two of its methods are replaced
        trainer._next_batch = self.recorder.timed("data", trainer._next_batch)
        trainer.optimizer.step = self.recorder.timed("optimizer", trainer.optimizer.step)

    def _wrap(self, target: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if target not in self.targets:
            return function

        def called(*args: Any, **kwargs: Any) -> Any:
            if self.recorder.active:
                return self.recorder.call(target, function, *args, **kwargs)
            if self._capturing is not None:
                self.capture.record(target, args, kwargs, in_step=self._capturing == "step")
            return function(*args, **kwargs)

        if self._ranges is None:
            return called
        ranged = self._ranges(target, called)

        def marked(*args: Any, **kwargs: Any) -> Any:
            # In instrumented steps only: the hooks behind ranges cost the host time, and plain steps are to be plain.
            return (ranged if self.recorder.active else called)(*args, **kwargs)

        return marked

    def warm_up(self, steps: int, collector: QuietCollector, report: Report) -> None:
        """Train `steps` steps, then capture one more. What is called only in the very first is captured as well."""
        for number in range(steps):
            report({"stage": "warm-up", "done": number, "total": steps})
            self.trainer.step()
            collector.after_step(number)
            self._capturing = None
        self._capturing = "step"
        self.trainer.step()
        self._capturing = None

    def measure(self, pairs: int, report: Report) -> StepTimes:
        """Alternate plain and instrumented steps; more of both while the two disagree, as they do on a busy machine."""
        plain: list[float] = []
        records: list[StepRecord] = []
        started = time.perf_counter()
        for extra in range(1 + EXTRA_ROUNDS):
            for number in range(pairs):
                if len(plain) >= LEAST_PAIRS and time.perf_counter() - started > SECONDS:
                    break
                report({"stage": "measuring again" if extra else "measuring", "done": number, "total": pairs})
                # Alternating which comes first, so that neither always follows the other's leftovers.
                for instrumented in (number % 2 == 0, number % 2 == 1):
                    if instrumented:
                        records.append(self._instrumented_step())
                    else:
                        plain.append(self.trainer.step().seconds)
            summary = summarise(plain, records, self.targets, self.trainer.config.total_batch_tokens)
            if abs(summary.sum_deviation) <= SUM_TOLERANCE or time.perf_counter() - started > SECONDS:
                break
        return summary

    def _instrumented_step(self) -> StepRecord:
        with watched(self.recorder, self.trainer.model, ELSEWHERE):
            self.recorder.begin()
            self.trainer.step()
            return self.recorder.end()


def summarise(
    plain: list[float], records: list[StepRecord], targets: Mapping[str, TargetInfo], tokens: int
) -> StepTimes:
    """Mean times per step in ms, of `tokens` tokens, over the middle half of the pairs (the interquartile mean, by the
    pair's total): as robust as a median, and parts still add up to their whole."""
    order = sorted(range(len(plain)), key=lambda i: plain[i] + records[i].seconds)
    quarter = len(order) // 4
    kept = order[quarter : len(order) - quarter]
    step_ms = _mean_ms([plain[i] for i in kept])
    instrumented_ms = _mean_ms([records[i].seconds for i in kept])
    shares = {name: _mean_share([records[i].shares.get(name, Share()) for i in kept]) for name in targets}
    phases = {name: _mean_ms([records[i].phases.get(name, 0.0) for i in kept]) for name in PHASES}
    phases["other"] = instrumented_ms - sum(phases.values())
    elsewhere = []
    for label in ELSEWHERE.values():
        share = _mean_share([records[i].shares.get(label, Share()) for i in kept])
        elsewhere.append(
            ElsewhereShare(
                name=label,
                forward_ms=share.own_forward,
                backward_ms=share.own_backward,
                calls_per_step=share.calls,
            )
        )
    times = {
        name: target_share(
            targets[name].phase,
            share.whole_forward,
            share.whole_backward,
            share.own_forward + share.own_backward,
            share.calls,
            dict(share.within),
        )
        for name, share in shares.items()
    }
    return step_times(plain, step_ms, phases, times, elsewhere, tokens)


def _mean_share(shares: list[Share]) -> Share:
    """Mean over steps, times in ms."""
    times = ("own_forward", "own_backward", "whole_forward", "whole_backward")
    means = {name: _mean_ms([getattr(share, name) for share in shares]) for name in times}
    calls = sum(share.calls for share in shares) / len(shares)
    within = sum((share.within for share in shares), Counter())
    return Share(calls=calls, within=Counter({name: n / len(shares) for name, n in within.items()}), **means)


def _mean_ms(seconds: list[float]) -> float:
    return math.fsum(seconds) / len(seconds) * 1e3
