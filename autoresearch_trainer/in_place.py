"""Checking kernels in place, as far as it is the same for every engine: what is counted, how a wrong call ends a run.

An engine takes the calls where its trainer makes them, holds one against what is right, and knows what else kernels
must leave alone.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from autoresearch_trainer.contract import CallContract
from autoresearch_trainer.errors import KernelWrong
from autoresearch_trainer.kernel_files import KERNELS_ROOT, InstalledKernels, KernelFile
from autoresearch_trainer.probe.state import GuardBase, State, changes
from autoresearch_trainer.record import CheckedKernel, CheckedKernels
from autoresearch_trainer.sampling import Sampler, likely_at_most


@dataclass(frozen=True)
class Finding:
    """What a comparison came to. elements: compared; excess: the largest error over what is allowed, 0 where nothing is
    wrong; problem: in words what is wrong, None where all is within the contract."""

    elements: int
    excess: float
    problem: str | None = None


class TakenCall(Protocol):
    """A sampled call: the number of that target's, in which step."""

    target: str
    number: int
    step: int


class Judge(Protocol):
    """Compares calls of one target."""

    @property
    def contract(self) -> CallContract: ...

    def examine(self, call: Any) -> Finding: ...


class CheckedCallsBase:
    """The checked kernels of one run, and what was found. judges: by target.

    made, checked, elements: counts by target. worst: the largest error over what is allowed, by target. wrong: target
    of the first call that was wrong, and in words how; None as long as there is none. seconds: spent on comparisons.
    step: the one under way, from 1; in_step: whether one is, and not an evaluation.
    """

    def __init__(self, sampler: Sampler, judges: Mapping[str, Judge]) -> None:
        self.made: Counter[str] = Counter(dict.fromkeys(judges, 0))
        self.checked: Counter[str] = Counter()
        self.elements: Counter[str] = Counter()
        self.worst: dict[str, float] = {}
        self.wrong: tuple[str, str] | None = None
        self.seconds = 0.0
        self.step = 1
        self.in_step = False
        self._sampler, self._judges = sampler, judges
        self._pending: list[Any] = []

    def judge_pending(self) -> None:
        """Judge what was sampled; its backward is over."""
        for call in self._pending:
            self.judge(call)
        self._pending.clear()

    def end_step(self, seconds: float) -> None:
        """Judge what the step sampled. seconds: that the step took."""
        self.judge_pending()
        self.in_step = False
        self._sampler.end_step(seconds, self.made)
        self.step += 1

    def judge(self, call: TakenCall) -> None:
        if self.wrong is not None:
            return
        started = time.perf_counter()
        found = self._judges[call.target].examine(call)
        spent = time.perf_counter() - started
        self.seconds += spent
        self._sampler.spent(call.target, spent)
        self.checked[call.target] += 1
        self.elements[call.target] += found.elements
        self.worst[call.target] = max(self.worst.get(call.target, 0.0), found.excess)
        if found.problem is not None:
            self.wrong = call.target, f"call {call.number} of it, in step {call.step}: {found.problem}"


class FingerprintsBase:
    """Compares a trainer and its process with themselves at moments between which only certain things may change.

    guard: of the process, made before any kernel was loaded. found: what was changed, in words; empty as long as
    nothing was. looks: pairs of moments compared.
    """

    def __init__(self, trainer: Any, guard: GuardBase) -> None:
        self._trainer = trainer
        self._guard = guard
        self._settings = self._read_settings()
        self.found: list[str] = []
        self.looks = 0

    def look_at_settings(self) -> None:
        """The configuration and the optimizer's settings."""
        self._compare(self._settings, self._read_settings(), "the step")

    def around_step(self) -> Callable[[], None]:
        """To be called before a step; what it returns, after it: random states, the floating-point environment of all
        threads, the framework's flags."""
        before = self._guard.state()
        return lambda: self._compare(before, self._guard.state(), "the step")

    def end_run(self) -> None:
        """The process and the code of the framework and of the trainer, against the begin of the run. Between steps
        others may draw random numbers."""
        found = [text for text in self._guard.changes(KERNELS_ROOT) if not text.startswith("random state")]
        self.found += [f"during the run {text}" for text in found]

    def _compare(self, before: Mapping[str, object], after: Mapping[str, object], when: str) -> None:
        self.looks += 1
        self.found += [f"{text.partition(':')[0]} was changed by {when}" for text in changes(dict(before), dict(after))]

    def _read_settings(self) -> State:
        trainer, optimizer = self._trainer, self._trainer.optimizer
        found: State = {f"setting {name}": value for name, value in trainer.config.to_json().items()}
        found |= {f"settings of {group.settings.name}": group.settings for group in optimizer.adamw}
        found |= {f"learning rate of {stack.name}": stack.lr for stack in optimizer.muon}
        return found | {"weight decay": optimizer.weight_decay}


class InPlaceChecksBase:
    """Checks every kernel of `selection` that is not the baseline's, or those of `only`; see `checks.Checks`. An engine
    sets `calls` before any kernel is loaded, and `prints` when the training begins."""

    calls: CheckedCallsBase
    prints: FingerprintsBase

    def __init__(
        self,
        installed: InstalledKernels,
        selection: Mapping[str, KernelFile],
        sampler: Sampler,
        only: Collection[str] | None,
    ) -> None:
        self.kernels = {
            target: file
            for target, file in selection.items()
            if (target in only if only is not None else file.sha256 != installed.installed_kernel(target).sha256)
        }
        self._sampler = sampler
        self._steps, self._seconds = 0, 0.0
        self._wrong: str | None = None

    def begin(self, trainer: Any) -> None:
        self.trainer = trainer
        self.calls.step = trainer.steps_done + 1  # a resumed run goes on counting

    def look(self) -> Callable[[], None]:
        """Begins a look at what kernels must leave alone in a step; what it returns ends it."""
        return self.prints.around_step()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around each step; every so often it is looked at what the kernels left alone. Raises KernelWrong."""
        looked = self._sampler.draw_step()
        with self._timed():
            end_look = self.look() if looked else nothing
        self.calls.in_step = True
        began = time.perf_counter()
        try:
            yield
        except Exception:
            # A wrong kernel may be why; where what is left of the step cannot be compared, the step's own error stands.
            with suppress(Exception):
                self.calls.end_step(time.perf_counter() - began)
            self._judge()
            raise
        self._steps += 1
        self.calls.end_step(time.perf_counter() - began)
        with self._timed():
            self.prints.look_at_settings()
            end_look()
        self._judge()

    def end(self) -> None:
        self.calls.judge_pending()
        with self._timed():
            self.prints.end_run()
        self._judge()

    def record(self) -> CheckedKernels:
        return {
            "targets": {target: self._checked(target, file.name) for target, file in self.kernels.items()},
            "steps": self._steps,
            "looks": self.prints.looks if self._steps else 0,
            "seconds": self._seconds + self.calls.seconds,
            "wrong": self._wrong,
        }

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started

    def _checked(self, target: str, name: str) -> CheckedKernel:
        calls, worst = self.calls, self.calls.worst.get(target)
        return {
            "name": name,
            "calls": calls.made[target],
            "checked": calls.checked[target],
            "elements": calls.elements[target],
            "worst": worst if worst is not None and math.isfinite(worst) else None,
            "bound": likely_at_most(calls.checked[target]),
        }

    def _judge(self) -> None:
        if self.calls.wrong is not None:
            target, words = self.calls.wrong
            self._wrong = f"kernel {target}={self.kernels[target].name} is wrong in training: {words}"
        elif self.prints.found:
            names = [f"{target}={file.name}" for target, file in self.kernels.items()]
            which = " or ".join(names) if len(names) < 4 else f"one of {len(names)}"
            self._wrong = (
                f"kernel {which} changes what is not its own: step {self.trainer.steps_done}: {self.prints.found[0]}"
            )
        if self._wrong is not None:
            raise KernelWrong(self._wrong)


def loaded_code(packages: tuple[str, ...]) -> Sequence[ModuleType | type]:
    """The modules loaded now whose names begin so, and the classes of this project's own among them."""
    modules = [module for name, module in sys.modules.items() if name.startswith(packages)]
    modules = [module for module in modules if isinstance(module, ModuleType)]
    classes = {
        value
        for module in modules
        if module.__name__.startswith("autoresearch_")
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    return [*modules, *classes]


def nothing() -> None:
    pass
