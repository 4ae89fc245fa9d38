"""Wires the orchestrator to the real steps: from a profile to candidates, and from each due step to the code that
executes it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch_lab import diet, workloads
from autoresearch_lab.ab.run import ab, describe_dataset
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.bench.rule import BUDGET_SECONDS
from autoresearch_lab.bench.run import bench, compile_ahead
from autoresearch_lab.catalog import Kernel, Target, load_catalog
from autoresearch_lab.engine import lacks_gpu
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Subject, newest_ab
from autoresearch_lab.executor.cluster import Cluster
from autoresearch_lab.executor.executor import Executor
from autoresearch_lab.executor.tasks import Tasks
from autoresearch_lab.executor.transport import RayTransport, chosen_address, require_ray
from autoresearch_lab.jobs import in_background, running
from autoresearch_lab.lab import Lab
from autoresearch_lab.orchestrate import ALLOW_OPTION, Candidate, CandidateState, Steps, drive, state_of
from autoresearch_lab.profile.schema import Profile
from autoresearch_lab.promote.apply import promote, promote_all
from autoresearch_lab.promote.check import readiness
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.results.note import FailedResults, FailedSettings
from autoresearch_lab.results.record import AbRecord, FailedRecord
from autoresearch_lab.status import CandidateStatus, StatusFile
from autoresearch_lab.verify.run import verify
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_lab.workspace import create
from autoresearch_lab.workspace.folder import LOCK
from autoresearch_lab.workspace.listing import Workspaces
from autoresearch_trainer.jobs import Progress, Report

COMPILE_SECONDS = 300.0


@dataclass
class Pipeline:
    """The steps of one orchestration: profile, place of the workspaces, and what judging needs. executor: carries out
    the steps that do not depend on each other; None for here, one after the other. on_remark: gets lines for the user.
    may_go_beyond_diet: the kernels, as TARGET=KERNEL, of which a person said so. status: hears of each step as it
    begins.
    """

    profile: Profile
    workspace_root: Path
    lab: Lab
    top_k: int
    bench_seconds: float = BUDGET_SECONDS
    ab_settings: Settings | None = None
    most_finalists: int | None = None
    winners_together: bool = False
    on_progress: Report | None = None
    executor: Executor | None = None
    on_remark: Callable[[str], None] | None = None
    may_go_beyond_diet: frozenset[str] = frozenset()
    status: StatusFile = field(default_factory=lambda: StatusFile(""))

    def __post_init__(self) -> None:
        """Raises LabError where the profile was taken elsewhere, or its dataset is not the one prepared now."""
        self.profile.require_engine(self.lab.context.engine.name, "orchestrate")
        for what, then, now in (
            ("device", self.profile.device.get("key"), self.lab.context.device["key"]),
            ("software", self.profile.software.get("key"), self.lab.context.software["key"]),
        ):
            if then != now:
                raise LabError(f"the profile was taken on another {what} ({then}, here {now}); run profile again")
        dataset = describe_dataset(self.lab.root, self.profile.dataset.name)
        if dataset["fingerprint"] != self.profile.dataset.fingerprint:
            raise LabError("the profile was taken on other data than is prepared now; run profile again")
        self.catalog = load_catalog(self.lab.root)
        self.settings = self.ab_settings or Settings.for_device(self.lab.context.engine.device)
        self._sets: dict[str, WorkloadSet] = {}

    @property
    def ab_key(self) -> dict[str, Any]:
        """The settings that an A/B must share to count for this orchestration."""
        return {
            "preset": self.profile.preset,
            "dataset": self.profile.dataset,
            "compile": self.settings.compile,
        }

    def candidates(self) -> list[Candidate]:
        """The kernels of the profile's top targets that run on this engine, in the profile's order: those of the
        catalogue, then the kernels that somebody changed in a workspace. A target that has none takes no place among
        the top ones: composite targets stand above their parts, and often only the parts have kernels."""
        workspaces = Workspaces(self.workspace_root, self.lab, self._say)
        found: list[Candidate] = []
        targets = 0
        for row in sorted(self.profile.targets, key=lambda row: row.rank):
            target = self.catalog.get(row.target)
            if target is None or row.target not in self.profile.workloads or targets == self.top_k:
                continue
            kernels = list(self._kernels(target, workspaces))
            targets += bool(kernels)
            for kernel, folder in kernels:
                digest = self.workloads(target.name).sha256
                subject = Subject(target, kernel, digest, self.lab.context)
                saveable = row.share if row.saveable_ms is None else row.saveable_ms / self.profile.step_ms
                replaces = target.parts_replaced(kernel)
                beyond = self._beyond_diet(target, kernel)
                found.append(
                    Candidate(row.rank, target, kernel, folder, row.share, saveable, digest, subject, replaces, beyond)
                )
        for name in sorted(self.may_go_beyond_diet - {candidate.label for candidate in found}):
            self._say(f"{ALLOW_OPTION} {name}: there is no such candidate")
        return found

    def _beyond_diet(self, target: Target, kernel: Kernel) -> tuple[str, ...]:
        """What the kernel's source does beyond its diet; nothing where a person allowed it."""
        if f"{target.name}={kernel.name}" in self.may_go_beyond_diet:
            return ()
        return tuple(diet.lines(kernel.path))

    def _kernels(self, target: Target, workspaces: Workspaces) -> Iterator[tuple[Kernel, Path]]:
        engine = self.lab.context.engine
        known: set[str] = set()
        for kernel in target.with_role("candidate", engine.framework, engine.device):
            known.add(kernel.sha256)
            yield kernel, workspaces.place(f"{target.name}-{kernel.name}")
        known.add(target.baseline(engine.framework, engine.device).sha256)
        for opened in workspaces.workspaces():
            wanted = opened.target.name == target.name and not lacks_gpu(opened.kernel.language)
            if wanted and opened.kernel.sha256 not in known:
                known.add(opened.kernel.sha256)
                yield opened.kernel, opened.folder

    def workloads(self, target: str) -> WorkloadSet:
        if target not in self._sets:
            reference = self.profile.workloads[target]
            self._sets[target] = workloads.load(self.lab.root.path / reference.path, expected=reference.sha256)
        return self._sets[target]

    def state(self, candidate: Candidate) -> CandidateState:
        """Where the candidate stands now."""
        selection = resolve("promoted", self.catalog, self.lab.context, self.lab.root)
        in_use = {target: kernel.sha256 for target, kernel in selection.kernels.items()}
        opened = (candidate.workspace / LOCK).is_file()
        replaced_by = self.replaced_by(candidate.target.name, selection.chosen())
        state = state_of(candidate, self.lab.ledger, in_use, self.ab_key, opened, replaced_by)
        if state.step == "promote":
            # An A/B with another preset may forbid what this profile's A/B would allow.
            obstacle = readiness(candidate.target, candidate.kernel, self.lab).obstacle
            return CandidateState(None, obstacle) if obstacle else state
        return state

    def replaced_by(self, target: str, chosen: Mapping[str, Kernel]) -> list[str]:
        """Those of the `chosen` kernels (target -> kernel) that do the work of `target`, where together they leave no
        call of it to the trainer; none where the profile knows of a call that is left."""
        row = next((row for row in self.profile.targets if row.target == target), None)
        if row is None or not row.calls_per_step:
            return []
        doing = [kernel for name, kernel in chosen.items() if target in self.catalog[name].parts_replaced(kernel)]
        done = sum(row.within.get(kernel.target, 0.0) for kernel in doing)
        return [f"{kernel.target}={kernel.name}" for kernel in doing] if done >= row.calls_per_step else []

    def called(self, chosen: Mapping[str, Kernel]) -> dict[str, Kernel]:
        """The `chosen` kernels less those that the trainer does not call because others of them do their work."""
        return {target: kernel for target, kernel in chosen.items() if not self.replaced_by(target, chosen)}

    def run(self, on_step: Callable[[Candidate, str], None]) -> tuple[list[Candidate], dict[str, CandidateState]]:
        """Execute every step that is due; returns the candidates and where each of them ended.

        Raises:
            LabError, LabFailure: the ledger cannot be written, or the cluster was lost; what was done before is there.
        """
        candidates = self.candidates()
        steps = Steps(
            self.extract, self.verify, self.bench, self.ab, self.promote, self.together, self.state, self.failed
        )

        def begin(candidate: Candidate, step: str) -> None:
            states = [(each.label, self.state(each)) for each in candidates]
            rows = [CandidateStatus(candidate=name, step=state.step, reason=state.reason) for name, state in states]
            self.status.step(candidate.label, step, rows)
            on_step(candidate, step)

        return candidates, drive(candidates, steps, begin, self.most_finalists, self.winners_together, self.executor)

    def use_ray(self, address: str | None) -> None:
        """Have the independent steps carried out on a Ray cluster. It is joined when the first of them is due.

        Raises:
            LabError: Ray is not installed, or the address (None: RAY_ADDRESS, else an instance of its own) is none.
        """
        require_ray()
        where, gpus = chosen_address(address), self.lab.context.engine.device == "cuda"
        tasks = Tasks(self.lab, self.workloads, self.profile.id, self.bench_seconds)
        self.executor = Cluster(lambda: RayTransport(where, self.lab.root, gpus), tasks, self._say, self._tell)

    def _tell(self, message: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(message)

    def _say(self, line: str) -> None:
        if self.on_remark is not None:
            self.on_remark(line)

    def extract(self, candidate: Candidate) -> None:
        create(
            candidate.target,
            candidate.workspace,
            self.lab,
            self.workloads(candidate.target.name),
            candidate.kernel,
            self.profile,
        )

    def verify(self, candidate: Candidate) -> None:
        """What a bench compiles first is compiled beside it, for verify leaves cores idle and times nothing."""
        subject, folders = self._subject(candidate), [self._run_dir(candidate, step) for step in ("verify", "compile")]
        with running(folders[0]) as run_dir, running(folders[1]) as beside:
            ahead = in_background(compile_ahead, *subject, beside, COMPILE_SECONDS)
            verify(*subject, run_dir=run_dir, profile_id=self.profile.id, on_progress=self.on_progress)
            with suppress(LabError, LabFailure):  # the bench tries again and says more
                ahead()
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)

    def bench(self, candidate: Candidate) -> None:
        seconds, tell = self.bench_seconds, self.on_progress
        with running(self._run_dir(candidate, "bench")) as run_dir:
            bench(*self._subject(candidate), budget_seconds=seconds, run_dir=run_dir, on_progress=tell)

    def ab(self, candidate: Candidate) -> None:
        self.joint_ab({candidate.target.name: candidate.kernel}, against="promoted")

    def joint_ab(self, kernels: dict[str, Kernel], against: str) -> None:
        """A/B of several kernels at once against a selection ("baseline" or "promoted")."""
        ab(
            kernels,
            resolve(against, self.catalog, self.lab.context, self.lab.root),
            self.lab,
            preset=self.profile.preset,
            dataset=self.profile.dataset.name,
            settings=self.settings,
            workloads={target: self.workloads(target).sha256 for target in kernels},
            on_progress=self.on_progress,
        )

    def known_ab(self, kernels: Mapping[str, Kernel], against: str) -> AbRecord | None:
        """The newest A/B here of exactly these kernels against that selection, unless other load disturbed it."""
        base = resolve(against, self.catalog, self.lab.context, self.lab.root).recorded()
        return newest_ab(kernels, self.catalog, self.lab, baseline=base, **self.ab_key)

    def together(self, candidates: list[Candidate]) -> None:
        """One A/B of all candidates at once against the trainer as it is; promotes all of them if it says so."""
        kernels = {candidate.target.name: candidate.kernel for candidate in candidates}
        if self.known_ab(kernels, "promoted") is None:
            self.joint_ab(kernels, against="promoted")
        decided = self.known_ab(kernels, "promoted")
        if decided is not None and decided.verdict == "PROMOTE":
            promote_all(kernels, self.lab, unattended=True)
            self._read_catalog()

    def promote(self, candidate: Candidate) -> None:
        promote(candidate.target, candidate.kernel, self.lab, unattended=True)
        self._read_catalog()

    def failed(self, candidate: Candidate, step: str, reason: str) -> None:
        """Note that a step could not be done. Raises LabError where the ledger cannot take the note."""
        line = " ".join(reason.split())
        self.lab.ledger.append(
            FailedRecord,
            **self.lab.context.fields(),
            target=candidate.target.name,
            kernel=candidate.kernel.id,
            workloads=self.workloads(candidate.target.name).record_field(self.profile.id),
            settings=FailedSettings(event="failed", step=step, contract_sha256=candidate.target.contract_sha256),
            results=FailedResults(reason=line),
        )
        self._say(f"{step} of {candidate.label} failed: {line}")

    def _read_catalog(self) -> None:
        """A workspace's kernel has become one of the catalogue with its promotion."""
        self.catalog = load_catalog(self.lab.root)

    def _subject(self, candidate: Candidate) -> tuple[Any, ...]:
        sets = self.workloads(candidate.target.name)
        return candidate.kernel, candidate.target, sets, self.lab

    def _run_dir(self, candidate: Candidate, step: str) -> Path:
        return self.lab.root.runs / f"{step}-{candidate.target.name}-{secrets.token_hex(4)}"
