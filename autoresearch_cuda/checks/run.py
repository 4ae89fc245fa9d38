"""The checks of one training run: sampled calls, and what kernels must leave alone."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from autoresearch_cuda.checks.calls import CheckedCalls, nothing
from autoresearch_cuda.checks.fingerprint import Fingerprints, ProcessGuard
from autoresearch_cuda.checks.judge import Judge
from autoresearch_cuda.kernel_files import INSTALLED, Ops
from autoresearch_cuda.train import Trainer
from autoresearch_trainer import contract
from autoresearch_trainer.errors import KernelWrong
from autoresearch_trainer.kernel_files import KernelFile, load_kernel
from autoresearch_trainer.record import CheckedKernel, CheckedKernels
from autoresearch_trainer.sampling import Sampler, likely_at_most


class InPlaceChecks:
    """Checks every kernel of `selection` that is not the baseline's, or those of `only`; see `Checks`."""

    def __init__(
        self,
        selection: Mapping[str, KernelFile],
        sampler: Sampler,
        device: str,
        only: Collection[str] | None = None,
    ) -> None:
        self._kernels = {
            target: file
            for target, file in selection.items()
            if (target in only if only is not None else file.sha256 != INSTALLED.installed_kernel(target).sha256)
        }
        self._sampler = sampler
        baseline = Ops.baseline() if self._kernels else None
        judges = {}
        for target in self._kernels:
            read = contract.read(target, "torch", device)
            judges[target] = Judge(read, [getattr(baseline, target), *map(load_kernel, read.trusted)])
        self._calls = CheckedCalls(sampler, judges)
        self.wrap = self._calls.wrap
        self._guard = ProcessGuard()
        self._steps, self._seconds = 0, 0.0
        self._wrong: str | None = None

    def begin(self, trainer: Trainer) -> None:
        self._trainer, self._prints = trainer, Fingerprints(trainer, self._guard)
        self._calls.around_update = self._prints.around_update
        self._calls.step = trainer.steps_done + 1  # a resumed run goes on counting

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around each step; every so often it is looked at what the kernels left alone. Raises KernelWrong."""
        looked = self._sampler.draw_step()
        with self._timed():
            end_step = self._prints.around_step() if looked else nothing
            if looked:
                self._trainer.before_update = self._prints.around_backward()
        began = time.perf_counter()
        try:
            yield
        except Exception:
            # A wrong kernel may be why; where what is left of the step cannot be compared, the step's own error stands.
            with suppress(Exception):
                self._calls.end_step(time.perf_counter() - began)
            self._judge()
            raise
        self._steps += 1
        self._calls.end_step(time.perf_counter() - began)
        with self._timed():
            self._trainer.before_update = nothing
            self._prints.look_at_settings()
            end_step()
        self._judge()

    def end(self) -> None:
        with self._timed():
            self._prints.end_run()
        self._judge()

    def record(self) -> CheckedKernels:
        return {
            "targets": {target: self._checked(target, file.name) for target, file in self._kernels.items()},
            "steps": self._steps,
            "looks": self._prints.looks if self._steps else 0,
            "seconds": self._seconds + self._calls.seconds,
            "wrong": self._wrong,
        }

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started

    def _checked(self, target: str, name: str) -> CheckedKernel:
        calls, worst = self._calls, self._calls.worst.get(target)
        return {
            "name": name,
            "calls": calls.made[target],
            "checked": calls.checked[target],
            "elements": calls.elements[target],
            "worst": worst if worst is not None and math.isfinite(worst) else None,
            "bound": likely_at_most(calls.checked[target]),
        }

    def _judge(self) -> None:
        if self._calls.wrong is not None:
            target, words = self._calls.wrong
            self._wrong = f"kernel {target}={self._kernels[target].name} is wrong in training: {words}"
        elif self._prints.found:
            names = [f"{target}={file.name}" for target, file in self._kernels.items()]
            which = " or ".join(names) if len(names) < 4 else f"one of {len(names)}"
            self._wrong = (
                f"kernel {which} changes what is not its own: step {self._trainer.steps_done}: {self._prints.found[0]}"
            )
        if self._wrong is not None:
            raise KernelWrong(self._wrong)
