"""One A/B's means: its two arms, and the jobs that time, train and evaluate them, with their results kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from autoresearch_lab import jobs
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.ab.throughput import LEAST_PAIRS, Throughput, summarise
from autoresearch_lab.engine import cannot_compile
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.machine import Context
from autoresearch_lab.promote.selection import Selection
from autoresearch_lab.results.ab import CheckedMode, CompiledProcess, ModeSpeeds
from autoresearch_lab.results.base import Mode
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_lab.sandbox.parent import JobFailed
from autoresearch_trainer.jobs import Job, JobAnswer, Progress
from autoresearch_trainer.jobs.base import A, DatasetRef, R, first_problem
from autoresearch_trainer.jobs.training import (
    CHECK,
    EVALUATE,
    THROUGHPUT,
    TRAIN,
    Arm,
    CheckArgs,
    CheckedRun,
    EvaluateArgs,
    Evaluation,
    SavedWeights,
    ThroughputAnswer,
    ThroughputArgs,
    TrainArgs,
    TrainingResult,
    TrainingRun,
)
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.record import CompileCache

ARMS: tuple[Arm, Arm] = ("baseline", "candidate")
Listener = Callable[[Progress], None]
# What the time of each job counts as, in records.
CLOCKS = {THROUGHPUT.name: "races", TRAIN.name: "training", EVALUATE.name: "evaluation", CHECK.name: "checks"}
P = TypeVar("P", bound=JobAnswer)
JOB_SECONDS = 3600.0
RACE_EXTRA_SECONDS = 600.0  # for compiling and warming up


class CandidateFailed(Exception):
    """The candidate crashed, hung or raised in the trainer, where the baseline runs."""


@dataclass(frozen=True)
class Run:
    """One training: `stop` of its `steps` are executed (None = all); with one_ulp the first weights are disturbed;
    `widened` targets compute in float32."""

    seed: int
    steps: int
    stop: int | None = None
    one_ulp: bool = False
    widened: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        kind = "-ulp" if self.one_ulp else "-float32" if self.widened else ""
        return f"seed{self.seed}-{self.steps}{kind}" + (f"-{self.stop}" if self.stop else "")

    @property
    def evaluated(self) -> bool:
        return self.stop is None and not self.one_ulp and not self.widened


@dataclass
class AbComparison:
    """What an A/B compares and with what. Arms are "baseline" and "candidate"; `evaluator` computes val_bpb.

    modes: by arm, whether it trains eager or compiled; given where earlier evidence says which is faster. targets: the
    candidate's.
    """

    context: Context
    arms: dict[str, Selection]
    evaluator: Selection
    preset: str
    dataset: dict[str, str]
    settings: Settings
    attempt: int
    cache: Cache
    folder: Path
    on_progress: Listener | None = None
    targets: tuple[str, ...] = ()
    in_place: dict[Mode, CheckedMode] = field(default_factory=dict)
    reused: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLOCKS.values(), 0.0))
    modes: dict[str, ModeSpeeds] = field(default_factory=dict)
    raw_races: list[dict[str, Any]] = field(default_factory=list)
    race_keys: list[dict[str, Any]] = field(default_factory=list)
    executed: set[tuple[str, Run]] = field(default_factory=set)
    # The most memory that a process training with the arm's kernels used, in MiB.
    peak_memory_mb: dict[str, float] = field(default_factory=dict)
    compile_caches: list[CompiledProcess] = field(default_factory=list)

    def race(self, index: int, total: int) -> tuple[Throughput | None, list[str]]:
        """Race process number `index` (0, 1, ...); or None, with what the candidate changed in the environment.

        Raises:
            CandidateFailed: it crashed, hung or raised.
            LabError: a kernel of the candidate's arm was never called.
        """
        seconds, seed = self.settings.race_seconds, self.settings.seed + 1000 * self.attempt + index
        compiled: list[Arm] = [arm for arm in ARMS if self.compiled(arm)]
        args = self.side_by_side(("baseline", "candidate"), compiled, seconds, seed)
        answer, wall_seconds = self.timed(args, f"race {index + 1} of {total}", both=True)
        self.raw_races.append({"seed": args.seed, **answer.model_dump(), "wall_seconds": wall_seconds})
        if answer.failed:
            raise CandidateFailed(answer.failed)
        if answer.environment:
            return None, answer.environment
        self._check_called(answer.calls or {})
        return summarise(args.seed, answer, wall_seconds, args.block_steps), []

    def compiled(self, arm: str) -> bool:
        """Whether that arm trains compiled; known once its mode is."""
        return self.modes[arm].used == "compiled"

    def side_by_side(
        self, selections: tuple[Arm, Arm], compiled: list[Arm], seconds: float, seed: int
    ) -> ThroughputArgs:
        """What the job `throughput` is to time in turns: two arms (or one against itself), some of them `compiled`."""
        settings = self.settings
        return ThroughputArgs(
            **self._common(),
            baseline=self.arms[selections[0]].files,
            candidate=self.arms[selections[1]].files,
            after=self._after(selections[0]),
            compiled=compiled,
            seconds=seconds,
            limit_seconds=seconds * settings.race_limit,
            block_steps=settings.block_steps,
            least_pairs=LEAST_PAIRS,
            foreign_limit=settings.foreign_limit,
            seed=seed,
        )

    def timed(self, args: ThroughputArgs, stage: str, *, both: bool) -> tuple[ThroughputAnswer, float]:
        """The answer of the job `throughput`, kept until the A/B is decided, and how long its process ran."""
        key = self._race_key(args)
        self.race_keys.append(key)
        kept = self.cache.get(key)
        if kept is None:
            limits = Limits(seconds=args.limit_seconds + RACE_EXTRA_SECONDS)
            started = time.monotonic()
            answer = self._job(THROUGHPUT, args, stage, limits, both=both)
            kept = {**answer.model_dump(), "wall_seconds": time.monotonic() - started}
            self.cache.put(key, kept)
        else:
            self.reused += 1
        answer = THROUGHPUT.read({name: value for name, value in kept.items() if name != "wall_seconds"})
        self.note_compiled(stage, answer.compile_cache)
        return answer, kept["wall_seconds"]

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

    def train(self, arm: str, runs: Iterable[Run]) -> dict[Run, TrainingResult]:
        """Results of the job `train` for each run; those that are known are not repeated. Both arms train in the
        candidate's mode, so that nothing but the kernels tells them apart.

        Raises:
            CandidateFailed: it crashed, hung or raised.
        """
        results: dict[Run, TrainingResult] = {}
        missing: list[Run] = []
        for run in dict.fromkeys(runs):
            known = self._trained(arm, run)
            if known is None or not self._evaluable(arm, run, known):
                missing.append(run)
            else:
                results[run] = known
        self.reused += sum((arm, run) not in self.executed for run in results)
        if missing:
            self.executed |= {(arm, run) for run in missing}
            results |= self._train(arm, missing)
        peaks = [result.peak_memory_mb for result in results.values()]
        if peaks:
            self.peak_memory_mb[arm] = max(self.peak_memory_mb.get(arm, 0.0), *peaks)
        return results

    def check_in_place(self) -> None:
        """Train the candidate a little with its calls checked, eager and compiled, or in the one mode that was asked
        for; `in_place` holds what was found.

        Raises:
            CandidateFailed: it crashed or hung.
        """
        unchecked = self._unchecked()
        self.in_place |= {mode: CheckedMode(not_checked=reason) for mode, reason in unchecked.items() if reason}
        modes = [mode for mode, reason in unchecked.items() if reason is None and mode not in self.in_place]
        if not modes:
            return
        settings = self.settings
        runs = [
            CheckedRun(
                seed=settings.seed,
                steps=settings.check_steps,
                compile=mode == "compiled",
                share=settings.check_share,
            )
            for mode in modes
        ]
        args = CheckArgs(
            **self._common(),
            selection=self.arms["candidate"].files,
            after=self._after("candidate"),
            targets=list(self.targets),
            runs=runs,
        )
        # A run that was killed takes over what it had found; another A/B draws other calls.
        key: dict[str, Any] = {"what": CHECK.name, "arms": self.arms["candidate"].contents(), "modes": modes}
        key |= {
            "attempt": self.attempt,
            "targets": list(self.targets),
            "rule": self.settings.plain(),
            **self._base_key(),
        }
        self.race_keys.append(key)
        kept = self.cache.get(key)
        if kept is None:
            answer = self._job(CHECK, args, "checking the candidate in place", both=True)
            self.cache.put(key, answer.model_dump())
        else:
            self.reused += 1
            answer = CHECK.read(kept)
        if len(answer.runs) != len(modes):
            raise JobFailed("protocol", f"{len(answer.runs)} answers of {len(modes)} checked trainings")
        for mode, found in zip(modes, answer.runs, strict=True):
            self.in_place[mode] = CheckedMode(
                checked=found.checked if found.failed is None else None,
                not_checked=found.failed,
                seconds=round(found.total_seconds, 2),
            )

    def _unchecked(self) -> dict[Mode, str | None]:
        """The modes to check in, each with the reason why it cannot be there."""
        used = self.modes["candidate"].used
        if self.settings.check_steps == 0:
            return {used: "not asked for"}
        if self.settings.compile != "auto":
            return {used: None}
        compiles = self.modes["candidate"].compiled is not None
        obstacle = None if compiles else cannot_compile(self.context.engine) or self.modes["candidate"].reason
        return {used: None, **({"eager": None} if used == "compiled" else {"compiled": obstacle})}

    def _trained(self, arm: str, run: Run) -> TrainingResult | None:
        """What is known of a training."""
        kept = self.cache.get(self._train_key(arm, run))
        return None if kept is None else TrainingResult.model_validate(kept)

    def _train(self, arm: str, runs: list[Run]) -> dict[Run, TrainingResult]:
        """runs: all with the same targets in float32."""
        by_id = {run.id: run for run in runs}
        results: dict[Run, TrainingResult] = {}

        def keep(message: Progress) -> None:
            if "run" not in message:
                return
            finished = self._part(TrainingResult, TRAIN, message["run"])
            run = by_id.get(finished.id)
            if run is None:
                raise JobFailed("protocol", f"train: nobody asked for a run {finished.id!r}")
            key = self._train_key(arm, run)
            if finished.weights:
                self.cache.folder.mkdir(parents=True, exist_ok=True)
                os.replace(self.folder / TRAIN.name / finished.weights, self.cache.weights(key))
            self.cache.put(key, finished.model_dump())
            results[run] = finished

        described = [
            TrainingRun(id=run.id, seed=run.seed, steps=run.steps, stop=run.stop, one_ulp=run.one_ulp,
                        save=run.evaluated)
            for run in runs
        ]  # fmt: skip
        args = TrainArgs(
            **self._common(),
            selection=self.arms[arm].files,
            compile=self.compiled("candidate"),
            after=self._after(arm) if self.compiled("candidate") else None,
            widened=list(runs[0].widened),
            runs=described,
        )
        stage = f"training the {arm}"
        answer = self._job(TRAIN, args, stage, both=arm == "candidate", on_message=keep)
        self.note_compiled(stage, answer.compile_cache)
        return results

    def _after(self, arm: str) -> dict[str, KernelFile] | None:
        """What a process with the kernels of that arm loads before them: with the candidate's the baseline's, as a race
        does, so that all of them share their graphs. The baseline's process finds no graph that those made."""
        return self.arms["baseline"].files if arm == "candidate" else None

    def note_compiled(self, process: str, cache: CompileCache | None) -> None:
        """Keep for the record what a process shared of compiled code; None of one that compiled nothing."""
        if cache is not None:
            self.compile_caches.append(CompiledProcess(process=process, cache=cache))

    @staticmethod
    def _part(kind: type[P], job: Job, value: object) -> P:
        """A part of an answer that came as a message. Raises JobFailed for what is not one."""
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            raise JobFailed("protocol", f"{job.name}: {first_problem(error)}") from None

    def evaluate(self, wanted: Iterable[tuple[str, Run]]) -> dict[tuple[str, Run], float | None]:
        """val_bpb of finished trainings by a process with the baseline kernels; None where the loss is not finite.

        The weights are removed once their number is known.
        """
        wanted = list(dict.fromkeys(wanted))
        by_id = {f"{arm}-{run.id}": (arm, run) for arm, run in wanted}
        waiting = {name: pair for name, pair in by_id.items() if self.cache.get(self._evaluation_key(*pair)) is None}

        def keep(message: Progress) -> None:
            if "evaluation" not in message:
                return
            evaluated = self._part(Evaluation, EVALUATE, message["evaluation"])
            arm, run = waiting[evaluated.id]
            self.cache.put(self._evaluation_key(arm, run), evaluated.model_dump())
            self.cache.weights(self._train_key(arm, run)).unlink(missing_ok=True)

        if waiting:
            args = EvaluateArgs(
                **self._common(),
                selection=self.evaluator.files,
                weights=[self._saved(name, arm, run) for name, (arm, run) in waiting.items()],
                eval_tokens=self.settings.eval_tokens,
            )
            self._job(EVALUATE, args, "evaluating", on_message=keep)
        found = {}
        for pair in wanted:
            value = self.cache.get(self._evaluation_key(*pair))
            if value is None:
                raise LabFailure(f"evaluate: no result for {pair[0]} {pair[1].id}")
            found[pair] = value["val_bpb"]
        return found

    def _saved(self, name: str, arm: str, run: Run) -> SavedWeights:
        trained = self._trained(arm, run)
        path = str(self.cache.weights(self._train_key(arm, run)))
        return SavedWeights(id=name, path=path, sha256=trained.sha256 or "" if trained else "")

    def forget_races(self) -> None:
        """Once an A/B is decided its races are history: another one must measure anew."""
        for key in self.race_keys:
            self.cache.drop(key)

    def _evaluable(self, arm: str, run: Run, known: TrainingResult) -> bool:
        """Whether a known training can still yield its val_bpb (or does not need to)."""
        if not run.evaluated or known.failed:
            return True
        if self.cache.get(self._evaluation_key(arm, run)) is not None:
            return True
        return self.cache.has_weights(self._train_key(arm, run), known.sha256)

    def _job(
        self,
        job: Job[A, R],
        args: A,
        stage: str,
        limits: Limits | None = None,
        *,
        both: bool = False,
        on_message: Listener | None = None,
    ) -> R:
        """Run a job and return its answer. `both`: the candidate's kernels run in it.

        Raises:
            LabError: the request itself is bad (unknown preset, no dataset).
            CandidateFailed: the job died and the baseline alone does not.
            LabFailure: it died for another reason.
        """

        def forward(message: Progress) -> None:
            if on_message is not None:
                on_message(message)
            if self.on_progress is not None and "stage" in message:
                self.on_progress({**message, "about": "A/B", "stage": stage})

        if self.on_progress is not None:
            self.on_progress({"about": "A/B", "stage": stage})
        started = time.monotonic()
        run = partial(
            jobs.call,
            self.context.engine,
            job,
            args,
            run_dir=self.folder / job.name,
            limits=limits or Limits(seconds=JOB_SECONDS),
            on_progress=forward,
        )
        try:
            try:
                return run()
            except JobFailed as failure:
                if failure.kind != "killed":
                    raise
                return run()  # something else ended it, which says nothing about a kernel; a second time it counts
        except JobFailed as failure:
            if both and self._baseline_runs():
                raise CandidateFailed(str(failure)) from failure
            raise
        finally:
            self.seconds[CLOCKS[job.name]] += time.monotonic() - started

    def _baseline_runs(self) -> bool:
        """Whether the other arm can train here at all; if not, the candidate is not to blame."""
        run = TrainingRun(id="check", seed=self.settings.seed, steps=2)
        args = TrainArgs(**self._common(), selection=self.arms["baseline"].files, runs=[run])
        try:
            jobs.call(self.context.engine, TRAIN, args, run_dir=self.folder / "check")
        except JobFailed:
            return False
        return True

    def _common(self) -> dict[str, Any]:
        """The fields of `ComparedArgs`."""
        dataset = DatasetRef.model_validate(self.dataset)
        return {"preset": self.preset, "dataset": dataset}

    def _base_key(self) -> dict[str, Any]:
        # Sums split over another number of threads round differently.
        threads = os.environ.get("OMP_NUM_THREADS")
        about = {"preset": self.preset, "dataset": self.dataset["fingerprint"], "threads": threads}
        return {**about, **self.context.keys()}

    def _race_key(self, args: ThroughputArgs) -> dict[str, Any]:
        pair = {"baseline": args.baseline, "candidate": args.candidate}
        arms = {arm: {target: file.sha256 for target, file in files.items()} for arm, files in pair.items()}
        how = args.model_dump(exclude={*pair, "dataset", "after"})
        return {"what": THROUGHPUT.name, "arms": arms, "args": how, **self._base_key()}

    def _train_key(self, arm: str, run: Run) -> dict[str, Any]:
        how = {"run": run.id, "compile": self.compiled("candidate")}
        if run.widened:
            how["widened"] = list(run.widened)
        return {"what": "train", "selection": self.arms[arm].contents(), **how, **self._base_key()}

    def _evaluation_key(self, arm: str, run: Run) -> dict[str, Any]:
        evaluator = {"evaluator": self.evaluator.contents(), "eval_tokens": self.settings.eval_tokens}
        return {**self._train_key(arm, run), "what": "evaluation", **evaluator}
