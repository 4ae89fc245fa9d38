"""Runs a profile or a bare capture, keeps what it found, and writes the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_lab import jobs, workloads
from autoresearch_lab.catalog import Target, load_catalog
from autoresearch_lab.ceilings import ceilings
from autoresearch_lab.datasets import default_dataset
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import captures, default_preset
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.profile.rank import rank
from autoresearch_lab.profile.schema import Profile, save
from autoresearch_lab.promote.selection import Selection, resolve
from autoresearch_lab.results.base import Artifact, Ceilings, Dataset, KernelId, WorkloadReference
from autoresearch_lab.results.profile import ProfileResults, ProfileSettings
from autoresearch_lab.results.record import ProfileRecord, WorkloadsRecord
from autoresearch_lab.results.trace import WorkloadsResults, WorkloadsSettings
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_lab.sandbox.parent import JobFailed
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.tracing import PROFILE, ProfileAnswer, ProfileArgs, TargetInfo

DEFAULT_STEPS = 20
JOB_SECONDS = 3600.0


def take_profile(
    lab: Lab,
    catalog: Mapping[str, Target],
    *,
    preset: str,
    dataset_folder: Path,
    selection: Selection,
    steps: int = DEFAULT_STEPS,
    on_progress: Report | None = None,
) -> Profile:
    """Profile the trainer, measure the ceilings if this machine has none yet, rank, keep the workloads, and append a
    `profile` record.

    Raises:
        LabError: unknown preset, dataset not prepared, or a kernel that does not load.
        JobFailed: the run itself failed.
    """
    with jobs.run_folder(lab.root, "profile") as folder:
        request = ProfileRequest(preset, dataset_folder, selection, steps)
        found = _run_job(lab.context, folder, catalog, request, jobs.about(f"profile {preset}", on_progress))
        kept = _keep(lab, preset, found, folder)
    limits = _ceilings(lab, on_progress)
    calls = {name: captured.workloads for name, captured in kept.items()}
    times = found.times
    if times is None:
        raise LabFailure("profile: the trainer's steps were not measured")
    measured = {name: share.model_dump() for name, share in times.targets.items() if name in calls}
    result = Profile(
        engine=lab.context.engine.name,
        device=lab.context.device,
        software=lab.context.software,
        preset=preset,
        dataset=_dataset(found),
        selection={name: KernelId(name=kernel.name, sha256=kernel.sha256) for name, kernel in found.selection.items()},
        ceilings=limits,
        targets=rank(measured, calls, catalog, limits, times.step_ms),
        workloads=references(lab.root, kept),
        environment=found.environment,
        **times.model_dump(exclude={"targets"}),
    )
    return _record(result, lab)


def ensure_workloads(
    target: Target,
    lab: Lab,
    preset: str | None = None,
    dataset: str | None = None,
    on_progress: Report | None = None,
) -> WorkloadSet:
    """The newest captured set of this target on this engine and device whose files are whole; with `preset` or
    `dataset`, one captured from that. Where there is none, the trainer runs for some steps to capture all targets.

    Raises:
        LabError: unknown preset, dataset not prepared, or the trainer never calls the target.
    """
    known = newest_workloads(target.name, lab, preset, dataset)
    if known is not None:
        return known
    preset, dataset = preset or default_preset(lab), dataset or default_dataset(lab.root.datasets)
    catalog = load_catalog(lab.root)
    baseline = resolve("baseline", catalog, lab.context, lab.root)
    with jobs.run_folder(lab.root, "capture") as folder:
        request = ProfileRequest(preset, lab.root.data(dataset), baseline, 0)
        found = _run_job(lab.context, folder, catalog, request, jobs.about(f"profile {preset}", on_progress))
        kept = _keep(lab, preset, found, folder)
    where = references(lab.root, kept)
    lab.ledger.append(
        WorkloadsRecord,
        **lab.context.fields(),
        settings=WorkloadsSettings(event="workloads", preset=preset, dataset=_dataset(found)),
        results=WorkloadsResults(workloads=where),
        workloads=where,
    )
    if target.name not in kept:
        raise LabError(f"the trainer makes no call of target {target.name} with preset {preset}: nothing to capture")
    return kept[target.name]


def newest_workloads(
    target: str, lab: Lab, preset: str | None = None, dataset: str | None = None, **more: Any
) -> WorkloadSet | None:
    """The newest set in the ledger that fits and is intact; None where there is none. `more`: see `Ledger.find`."""
    for record in captures(lab.ledger, lab.context, **more):
        about, reference = record.settings, record.workloads.get(target)
        data = about.dataset.name if about.dataset else None
        if reference is None or preset not in (None, about.preset) or dataset not in (None, data):
            continue
        try:
            return workloads.load(lab.root.path / reference.path, expected=reference.sha256)
        except LabError:
            continue  # lost or damaged: an older set, or a new capture, will do
    return None


def references(root: Root, kept: Mapping[str, WorkloadSet]) -> dict[str, WorkloadReference]:
    """The sets as records and profiles name them."""
    return {
        name: WorkloadReference(sha256=found.sha256, path=root.relative(found.path), count=len(found.workloads))
        for name, found in kept.items()
    }


def _dataset(found: ProfileAnswer) -> Dataset:
    return Dataset(name=found.dataset.name, fingerprint=found.dataset.fingerprint)


def _ceilings(lab: Lab, on_progress: Report | None) -> Ceilings:
    """The machine's ceilings, measured once more; empty, that is unknown, where that fails: the profile stands."""
    if on_progress is not None:
        on_progress({"stage": "ceilings of this machine"})
    try:
        return ceilings(lab, fresh=True)
    except JobFailed as failure:
        return Ceilings(unknown=str(failure))


@dataclass(frozen=True)
class ProfileRequest:
    """What is trained, with which kernels. steps: pairs of steps to measure; 0 = calls are captured, nothing timed."""

    preset: str
    dataset_folder: Path
    selection: Selection
    steps: int


def _run_job(
    context: Context, folder: Path, catalog: Mapping[str, Target], request: ProfileRequest, on_progress: Report | None
) -> ProfileAnswer:
    described = {
        name: TargetInfo(
            args=tuple(argument.name for argument in target.contract.args),
            phase=target.contract.phase,
            grads=frozenset(argument.name for argument in target.contract.args if argument.grad),
            scalars=frozenset(argument.name for argument in target.contract.args if argument.kind == "scalar"),
        )
        for name, target in catalog.items()
        if name in request.selection.kernels
    }
    args = ProfileArgs(
        preset=request.preset,
        dataset_dir=str(Path(request.dataset_folder).resolve()),
        selection=request.selection.files,
        targets=described,
        steps=request.steps,
    )
    limits = Limits(seconds=JOB_SECONDS)
    return jobs.call(context.engine, PROFILE, args, run_dir=folder, limits=limits, on_progress=on_progress)


def _keep(lab: Lab, preset: str, found: ProfileAnswer, folder: Path) -> dict[str, WorkloadSet]:
    """Move what the job captured to its place under the root.

    Where the same calls on the same data are known already, with this software, that set stands: other kernels or
    another number of threads round differently, and a new sample of the same calls must not make evidence stale.
    """
    kept = {}
    for name, told in found.workloads.items():
        captured = list(told)
        data = found.dataset.model_dump()
        software = lab.context.software["key"]
        known = newest_workloads(name, lab, preset, data["name"], software_key=software)
        if known is not None and known.workloads == captured and known.data == data:
            kept[name] = known
            continue
        kept[name] = workloads.save(
            lab.root,
            name,
            engine=lab.context.engine.name,
            preset=preset,
            data=data,
            workloads=captured,
            sample=folder / "samples" / f"{name}.safetensors",
        )
    return kept


def _record(result: Profile, lab: Lab) -> Profile:
    """Append the record and return the profile with its id.

    The record carries the hash of a copy that is kept with the evidence; that copy cannot name the record's id, which
    depends on the hash, so its `id` is null.
    """
    copy = lab.root.results / "profiles" / f"{json_sha256(result.plain())[:16]}.json"
    save(result, copy)
    own = {name: getattr(result, name) for name in ProfileResults.model_fields}
    record = lab.ledger.append(
        ProfileRecord,
        **lab.context.fields(),
        settings=ProfileSettings(preset=result.preset, dataset=result.dataset, selection=result.selection),
        results=ProfileResults(**own),
        workloads=result.workloads,
        artifacts=[Artifact(path=lab.root.relative(copy), sha256=file_sha256(copy))],
    )
    return result.model_copy(update={"id": record.id})
