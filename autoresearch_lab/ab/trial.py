"""One A/B's means: its two arms, and the jobs that race, train and evaluate them, with their results kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch_lab import jobs
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.ab.races import LEAST_PAIRS, Race, summarise
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.machine import Context
from autoresearch_lab.promote.selection import Selection
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_lab.sandbox.parent import JobFailed

Progress = Callable[[dict[str, Any]], None]
JOB_SECONDS = 3600.0
RACE_EXTRA_SECONDS = 600.0  # for compiling and warming up


class CandidateFailed(Exception):
    """The candidate crashed, hung or raised in the trainer, where the baseline runs."""


@dataclass(frozen=True)
class Run:
    """One training: `stop` of its `steps` are executed (None = all); with one_ulp the first weights are disturbed."""

    seed: int
    steps: int
    stop: int | None = None
    one_ulp: bool = False

    @property
    def id(self) -> str:
        kind = "-ulp" if self.one_ulp else ""
        return f"seed{self.seed}-{self.steps}{kind}" + (f"-{self.stop}" if self.stop else "")

    @property
    def evaluated(self) -> bool:
        return self.stop is None and not self.one_ulp


@dataclass
class Trial:
    """What an A/B compares and with what. Arms are "baseline" and "candidate"; `evaluator` computes val_bpb."""

    context: Context
    arms: dict[str, Selection]
    evaluator: Selection
    preset: str
    dataset: dict[str, str]
    settings: Settings
    attempt: int
    cache: Cache
    folder: Path
    on_progress: Progress | None = None
    reused: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"races": 0.0, "training": 0.0, "evaluation": 0.0})
    raw_races: list[dict[str, Any]] = field(default_factory=list)
    race_keys: list[dict[str, Any]] = field(default_factory=list)
    executed: set[tuple[str, Run]] = field(default_factory=set)
    # The most memory that a process training with the arm's kernels used, in MiB.
    peak_memory_mb: dict[str, float] = field(default_factory=dict)

    def race(self, index: int, total: int) -> tuple[Race | None, list[str]]:
        """Race process number `index` (0, 1, ...); or None, with what the candidate changed in the environment.

        Raises:
            CandidateFailed: it crashed, hung or raised.
            LabError: a kernel of the candidate's arm was never called.
        """
        settings = self.settings
        args = {
            "seconds": settings.race_seconds,
            "limit_seconds": settings.race_seconds * settings.race_limit,
            "block_steps": settings.block_steps,
            "least_pairs": LEAST_PAIRS,
            "foreign_limit": settings.foreign_limit,
            "seed": settings.seed + 1000 * self.attempt + index,
        }
        key = self._race_key(args)
        self.race_keys.append(key)
        result = self.cache.get(key)
        if result is None:
            arms = {arm: selection.plain() for arm, selection in self.arms.items()}
            stage = f"race {index + 1} of {total}"
            limits = Limits(seconds=args["limit_seconds"] + RACE_EXTRA_SECONDS)
            result = self._job("race", {**args, **arms}, stage, "races", limits, both=True)
            self.cache.put(key, result)
        else:
            self.reused += 1
        self.raw_races.append({"seed": args["seed"], **result})
        if result["failed"]:
            raise CandidateFailed(result["failed"])
        if result["environment"]:
            return None, result["environment"]
        self._check_called(result.get("calls") or {})
        return summarise(args["seed"], result), []

    def _check_called(self, calls: Mapping[str, Mapping[str, int]]) -> None:
        """What the candidate's arm has other kernels for than the baseline's must be called there.

        calls: {arm: {target: count}}, of a race.

        Raises:
            LabError: a kernel is selected, but others do its work.
        """
        counts, chosen = calls.get("candidate") or {}, self.arms["candidate"].kernels
        other = self.arms["baseline"].kernels
        for target, kernel in chosen.items():
            differs = target not in other or other[target].sha256 != kernel.sha256
            if differs and counts.get(target) == 0:
                raise LabError(
                    f"{target}={kernel.name} is never called with the kernels beside it, so there is nothing to "
                    "compare; see `replaces` in the contracts of the targets that are composed of others"
                )

    def train(self, arm: str, runs: Iterable[Run]) -> dict[Run, dict[str, Any]]:
        """Results of the job `train` for each run; those that are known are not repeated.

        Raises:
            CandidateFailed: it crashed, hung or raised.
        """
        results: dict[Run, dict[str, Any]] = {}
        missing: list[Run] = []
        for run in dict.fromkeys(runs):
            known = self.cache.get(self._train_key(arm, run))
            if known is None or not self._evaluable(arm, run, known):
                missing.append(run)
            else:
                results[run] = known
        self.reused += sum((arm, run) not in self.executed for run in results)
        if missing:
            self.executed |= {(arm, run) for run in missing}
            results |= self._train(arm, missing)
        peaks = [result["peak_memory_mb"] for result in results.values() if "peak_memory_mb" in result]
        if peaks:
            self.peak_memory_mb[arm] = max(self.peak_memory_mb.get(arm, 0.0), *peaks)
        return results

    def _train(self, arm: str, runs: list[Run]) -> dict[Run, dict[str, Any]]:
        by_id = {run.id: run for run in runs}
        results: dict[Run, dict[str, Any]] = {}

        def keep(message: dict[str, Any]) -> None:
            finished = message.get("run")
            if finished is None:
                return
            run = by_id[finished["id"]]
            key = self._train_key(arm, run)
            if finished["weights"]:
                self.cache.folder.mkdir(parents=True, exist_ok=True)
                os.replace(self.folder / "train" / finished["weights"], self.cache.weights(key))
            self.cache.put(key, finished)
            results[run] = finished

        described = [
            {"id": run.id, "seed": run.seed, "steps": run.steps, "stop": run.stop, "one_ulp": run.one_ulp,
             "save": run.evaluated}
            for run in runs
        ]  # fmt: skip
        args = {"selection": self.arms[arm].plain(), "runs": described}
        self._job("train", args, f"training the {arm}", "training", both=arm == "candidate", on_message=keep)
        return results

    def evaluate(self, wanted: Iterable[tuple[str, Run]]) -> dict[tuple[str, Run], float | None]:
        """val_bpb of finished trainings by a process with the baseline kernels; None where the loss is not finite.

        The weights are removed once their number is known.
        """
        wanted = list(dict.fromkeys(wanted))
        by_id = {f"{arm}-{run.id}": (arm, run) for arm, run in wanted}
        waiting = {name: pair for name, pair in by_id.items() if self.cache.get(self._evaluation_key(*pair)) is None}

        def keep(message: dict[str, Any]) -> None:
            evaluated = message.get("evaluation")
            if evaluated is None:
                return
            arm, run = waiting[evaluated["id"]]
            self.cache.put(self._evaluation_key(arm, run), evaluated)
            self.cache.weights(self._train_key(arm, run)).unlink(missing_ok=True)

        if waiting:
            weights = [
                {
                    "id": name,
                    "path": str(self.cache.weights(self._train_key(arm, run))),
                    "sha256": (self.cache.get(self._train_key(arm, run)) or {}).get("sha256"),
                }
                for name, (arm, run) in waiting.items()
            ]
            args = {
                "selection": self.evaluator.plain(),
                "weights": weights,
                "eval_tokens": self.settings.eval_tokens,
            }
            self._job("evaluate", args, "evaluating", "evaluation", on_message=keep)
        found = {}
        for pair in wanted:
            value = self.cache.get(self._evaluation_key(*pair))
            if value is None:
                raise LabFailure(f"evaluate: no result for {pair[0]} {pair[1].id}")
            found[pair] = value["val_bpb"]
        return found

    def forget_races(self) -> None:
        """Once an A/B is decided its races are history: another one must measure anew."""
        for key in self.race_keys:
            self.cache.drop(key)

    def _evaluable(self, arm: str, run: Run, known: dict[str, Any]) -> bool:
        """Whether a known training can still yield its val_bpb (or does not need to)."""
        if not run.evaluated or known["failed"]:
            return True
        if self.cache.get(self._evaluation_key(arm, run)) is not None:
            return True
        return self.cache.has_weights(self._train_key(arm, run), known["sha256"])

    def _job(
        self,
        job: str,
        args: dict[str, Any],
        stage: str,
        clock: str,
        limits: Limits | None = None,
        *,
        both: bool = False,
        on_message: Progress | None = None,
    ) -> dict[str, Any]:
        """Run a job and return its result with "wall_seconds". `both`: the candidate's kernels run in it.

        Raises:
            LabError: the request itself is bad (unknown preset, no dataset).
            CandidateFailed: the job died and the baseline alone does not.
            LabFailure: it died for another reason.
        """

        def forward(message: dict[str, Any]) -> None:
            if on_message is not None:
                on_message(message)
            if self.on_progress is not None and "stage" in message:
                self.on_progress({**message, "stage": f"A/B: {stage}"})

        if self.on_progress is not None:
            self.on_progress({"stage": f"A/B: {stage}"})
        args = {**self._common(), **args}
        started = time.monotonic()
        try:
            result = jobs.call(
                self.context.engine,
                job,
                args,
                run_dir=self.folder / job,
                limits=limits or Limits(seconds=JOB_SECONDS),
                on_progress=forward,
            )
        except JobFailed as failure:
            if both and self._baseline_runs():
                raise CandidateFailed(str(failure)) from failure
            raise
        finally:
            self.seconds[clock] += time.monotonic() - started
        return {**result, "wall_seconds": time.monotonic() - started}

    def _baseline_runs(self) -> bool:
        """Whether the other arm can train here at all; if not, the candidate is not to blame."""
        run = {"id": "check", "seed": self.settings.seed, "steps": 2}
        args = {**self._common(), "selection": self.arms["baseline"].plain()}
        try:
            jobs.call(self.context.engine, "train", {**args, "runs": [run]}, run_dir=self.folder / "check")
        except JobFailed:
            return False
        return True

    def _common(self) -> dict[str, Any]:
        return {"preset": self.preset, "dataset": self.dataset, "compile": self.settings.compile}

    def _base_key(self) -> dict[str, Any]:
        # Sums split over another number of threads round differently.
        threads = os.environ.get("OMP_NUM_THREADS")
        keys = {"preset": self.preset, "dataset": self.dataset["fingerprint"], "threads": threads}
        keys["compile"] = self.settings.compile
        return {**keys, **self.context.keys()}

    def _race_key(self, args: dict[str, Any]) -> dict[str, Any]:
        arms = {arm: selection.contents() for arm, selection in self.arms.items()}
        return {"what": "race", "arms": arms, "args": args, **self._base_key()}

    def _train_key(self, arm: str, run: Run) -> dict[str, Any]:
        return {"what": "train", "selection": self.arms[arm].contents(), "run": run.id, **self._base_key()}

    def _evaluation_key(self, arm: str, run: Run) -> dict[str, Any]:
        evaluator = {"evaluator": self.evaluator.contents(), "eval_tokens": self.settings.eval_tokens}
        return {**self._train_key(arm, run), "what": "evaluation", **evaluator}
