"""Job `profile`: runs the real trainer, says where its steps spend their time, and captures the targets' workloads.

MLX is lazy and has no clock on the GPU, so that a step cannot be watched from inside. Instead: plain steps say how long
a step takes; the same step with its phases evaluated one after the other says how long those take, and that the two
agree is checked and stated; and every distinct call that one step makes is repeated by itself, with the arguments that
it had, evaluated at once. Times of targets are those of the repeated calls, times how often the step makes them. What
is left of the step is unattributed; nothing is scaled to fit.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from autoresearch_data.dataset import Dataset, open_dataset
from autoresearch_mlx import model as model_module
from autoresearch_mlx.arrays import to_numpy
from autoresearch_mlx.kernel_files import Ops
from autoresearch_mlx.memory import on_gpu
from autoresearch_mlx.probe import Report
from autoresearch_mlx.probe.capture import Capture
from autoresearch_mlx.probe.phases import phased_step
from autoresearch_mlx.probe.stopwatch import Replay, Stopwatch, Timing
from autoresearch_mlx.process import prepare_process
from autoresearch_mlx.train import Trainer
from autoresearch_trainer.config import TrainConfig
from autoresearch_trainer.jobs.base import Selection, facts
from autoresearch_trainer.jobs.tracing import (
    ElsewhereShare,
    ProfileAnswer,
    ProfileArgs,
    StepTimes,
    TargetInfo,
    TargetShare,
)
from autoresearch_trainer.probe.capture import workload_id
from autoresearch_trainer.probe.steps import PHASES, RUN_STEPS, step_times, target_share
from autoresearch_trainer.probe.words import trained
from autoresearch_trainer.process import QuietCollector

# Long enough that the projections that start at zero have grown. The CPU build takes seconds for a step.
WARMUP_STEPS, CPU_WARMUP_STEPS = 12, 2
# Functions of the model outside every target, shown so that the rest has names.
ELSEWHERE = {"linear": "linear layers", "embedding": "embedding tables"}
SECONDS, LEAST_PAIRS = 60.0, 2
REPLAY_SECONDS, LEAST_REPLAYS = 0.3, 3


def run(args: ProfileArgs, run_dir: Path, report: Report) -> ProfileAnswer:
    """Profile the trainer; samples of the workloads go into run_dir/samples.

    Raises ConfigError, KernelError or NoDataset for a request that cannot be served.
    """
    config = TrainConfig.for_preset(args.preset, steps=RUN_STEPS, seed=args.seed)
    dataset = open_dataset(Path(args.dataset_dir))
    environment = prepare_process()
    session = _Session(config, args.targets, args.selection, dataset)
    usual = WARMUP_STEPS if on_gpu() else CPU_WARMUP_STEPS
    with QuietCollector() as collector:
        session.warm_up(usual if args.warmup is None else args.warmup, collector, report)
        return ProfileAnswer(
            **trained(dataset, session.trainer.ops.kernels),
            device="mlx",
            workloads=session.capture.write(run_dir / "samples"),
            environment=facts(environment),
            times=session.measure(args.steps, report) if args.steps else None,
        )


@dataclass
class _Seen:
    """One distinct call of the captured step. inside: {target that made it or None: how often}."""

    name: str
    function: Callable[..., Any]
    replay: Replay
    optimizer: bool
    inside: Counter = field(default_factory=Counter)
    forward: float = 0.0
    backward: float = 0.0

    @property
    def calls(self) -> int:
        return sum(self.inside.values())


class _Session:
    """A trainer whose calls can be captured, and repeated by themselves."""

    def __init__(
        self, config: TrainConfig, targets: Mapping[str, TargetInfo], selection: Selection, dataset: Dataset
    ) -> None:
        self.targets = targets
        self.capture = Capture(targets)
        self.seen: dict[str, _Seen] = {}
        self._capturing = False
        self._stack: list[str] = []
        self.trainer = Trainer(config, Ops.load(selection, self._wrap), dataset)

    def _wrap(self, target: str, function: Callable[..., Any]) -> Callable[..., Any]:
        info = self.targets.get(target)
        if info is None:
            return function

        def called(*args: Any) -> Any:
            if not self._capturing:
                return function(*args)
            self.capture.record(target, args, {}, in_step=True)
            specs = [self.capture.spec(name, value, info) for name, value in zip(info.args, args, strict=True)]
            leaves = [i for i, spec in enumerate(specs) if spec.get("grad")]
            self._note(workload_id(target, specs), target, function, args, leaves, info.phase == "optimizer")
            self._stack.append(target)
            try:
                return function(*args)
            finally:
                self._stack.pop()

        return called

    def _outside(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the model that is no target, noted in the same way."""

        def called(*args: mx.array) -> mx.array:
            key = f"{name} {[(tuple(a.shape), str(a.dtype)) for a in args]}"
            leaves = [i for i, a in enumerate(args) if mx.issubdtype(a.dtype, mx.floating)]
            self._note(key, ELSEWHERE[name], function, args, leaves, False)
            return function(*args)

        return called

    def _note(
        self, key: str, name: str, function: Callable[..., Any], args: Any, leaves: list[int], optimizer: bool
    ) -> None:
        if key not in self.seen:
            # Copies: the arguments themselves hold on to the graph of the whole step.
            copies = [mx.array(to_numpy(a)) if isinstance(a, mx.array) else a for a in args]
            mx.eval([copy for copy in copies if isinstance(copy, mx.array)])
            self.seen[key] = _Seen(name, function, Replay(copies, leaves), optimizer)
        self.seen[key].inside[self._stack[-1] if self._stack else None] += 1

    def warm_up(self, steps: int, collector: QuietCollector, report: Report) -> None:
        """Train `steps` steps, then capture one more."""
        for number in range(steps):
            report({"stage": "warm-up", "done": number, "total": steps})
            self.trainer.step()
            collector.after_step(number)
        originals = {name: getattr(model_module, name) for name in ELSEWHERE}
        self._capturing = True
        for name, function in originals.items():
            setattr(model_module, name, self._outside(name, function))
        try:
            self.trainer.step()
        finally:
            self._capturing = False
            for name, function in originals.items():
                setattr(model_module, name, function)

    def measure(self, pairs: int, report: Report) -> StepTimes:
        """Alternate plain and phased steps, then repeat every distinct call by itself."""
        plain: list[float] = []
        phased: list[dict[str, float]] = []
        started = time.perf_counter()
        for number in range(max(pairs, LEAST_PAIRS)):
            if len(plain) >= LEAST_PAIRS and time.perf_counter() - started > SECONDS:
                break
            report({"stage": "measuring", "done": number, "total": pairs})
            # Alternating which comes first, so that neither always follows the other's leftovers.
            for by_phases in (number % 2 == 0, number % 2 == 1):
                if by_phases:
                    phased.append(phased_step(self.trainer))
                else:
                    plain.append(self.trainer.step().seconds)
        watch = Stopwatch()
        for number, seen in enumerate(self.seen.values()):
            report({"stage": "repeating calls", "done": number, "total": len(self.seen)})
            seen.forward, seen.backward = _seconds(watch, seen)
        return self._summary(plain, phased)

    def _summary(self, plain: list[float], phased: list[dict[str, float]]) -> StepTimes:
        step_ms = statistics.median(plain) * 1e3
        phases = {name: statistics.median(step[name] for step in phased) * 1e3 for name in (*PHASES, "other")}
        times = {name: self._target_times(name, info.phase) for name, info in self.targets.items()}
        elsewhere = [self._elsewhere(label) for label in ELSEWHERE.values()]
        return step_times(plain, step_ms, phases, times, elsewhere, self.trainer.config.total_batch_tokens)

    def _target_times(self, target: str, phase: str) -> TargetShare:
        own = [seen for seen in self.seen.values() if seen.name == target]
        forward = 1e3 * sum(seen.calls * seen.forward for seen in own)
        backward = 1e3 * sum(seen.calls * seen.backward for seen in own)
        inside = 1e3 * sum(s.inside[target] * (s.forward + s.backward) for s in self.seen.values())
        within = sum((seen.inside for seen in own), Counter())
        calls = float(sum(seen.calls for seen in own))
        outer = {name: float(count) for name, count in within.items() if name is not None}
        return target_share(phase, forward, backward, max(0.0, forward + backward - inside), calls, outer)

    def _elsewhere(self, label: str) -> ElsewhereShare:
        own = [seen for seen in self.seen.values() if seen.name == label]
        return ElsewhereShare(
            name=label,
            forward_ms=1e3 * sum(seen.calls * seen.forward for seen in own),
            backward_ms=1e3 * sum(seen.calls * seen.backward for seen in own),
            calls_per_step=float(sum(seen.calls for seen in own)),
        )


def _seconds(watch: Stopwatch, seen: _Seen) -> tuple[float, float]:
    """Median seconds of forward and backward of one call repeated by itself; the first repetition is not counted."""
    watch.measure(seen.function, seen.replay, 0)
    timings: list[Timing] = []
    started = time.perf_counter()
    while len(timings) < LEAST_REPLAYS or time.perf_counter() - started < REPLAY_SECONDS:
        timings.append(watch.measure(seen.function, seen.replay, 0))
    # Disturbed ones only where there are no others.
    used = [timing for timing in timings if not timing.disturbed] or timings
    forward = statistics.median(timing.forward_ns for timing in used)
    backward = statistics.median(timing.backward_ns for timing in used)
    return forward / 1e9, backward / 1e9
