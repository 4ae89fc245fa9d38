"""`ab`: the A/B of one kernel, or of several together, from the request to the ledger record."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from autoresearch_common.files import write_atomic
from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_data.dataset import Manifest
from autoresearch_data.errors import DataError
from autoresearch_lab import jobs
from autoresearch_lab.ab import decide
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.ab.comparison import AbComparison
from autoresearch_lab.ab.decide import AbOutcome
from autoresearch_lab.ab.promise import promise
from autoresearch_lab.ab.require import Standing, require
from autoresearch_lab.ab.settings import Settings
from autoresearch_lab.catalog import Kernel, find_target, load_catalog
from autoresearch_lab.datasets import default_dataset
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import attempts_of, default_preset, measured_modes
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.promote.selection import Selection
from autoresearch_lab.promote.selection import baseline as baseline_selection
from autoresearch_lab.results.ab import AbResults, AbRule, AbSeeds, AbSettings, ModeSpeeds, ProcessSpeed
from autoresearch_lab.results.base import Artifact, Dataset
from autoresearch_lab.results.record import AbRecord
from autoresearch_trainer.jobs import Report


def ab(
    candidate: Mapping[str, Kernel],
    baseline: Selection,
    lab: Lab,
    *,
    preset: str | None = None,
    dataset: str | None = None,
    settings: Settings | None = None,
    workloads: Mapping[str, str] | None = None,
    on_progress: Report | None = None,
) -> AbRecord:
    """Decide whether `candidate` (target -> kernel), laid over `baseline`, makes the trainer better; append the record.

    workloads: target -> hash of the captured set that verify and bench have to speak of; by default that of the newest
    bench. A run that was interrupted leaves no record; the next one takes over what it had measured.

    Raises:
        LabError: a kernel lacks evidence or is in use already, unknown preset, no dataset.
        LabFailure: the lab or the baseline failed; nothing is recorded then.
    """
    settings = settings or Settings.for_device(lab.context.engine.device)
    preset = preset or default_preset(lab)
    catalog = load_catalog(lab.root)
    check_new(candidate, baseline)
    standings = [
        require(find_target(catalog, name), kernel, lab, (workloads or {}).get(name))
        for name, kernel in candidate.items()
    ]
    data = describe_dataset(lab.root, dataset or default_dataset(lab.root.datasets))
    asked = request(standings, baseline, preset, data, settings)
    attempt = 1 + len(attempts_of(asked, lab))
    identity = [asked.model_dump(mode="json"), lab.context.keys(), attempt]
    folder = writable_folder(lab.root.runs / f"ab-{json_sha256(identity)[:12]}", "A/B")
    arms = {"baseline": baseline, "candidate": baseline.with_kernels(candidate)}
    comparison = AbComparison(
        context=lab.context,
        arms=arms,
        evaluator=baseline_selection(catalog, lab.context.engine),
        preset=preset,
        dataset=data,
        settings=settings.at_attempt(attempt),
        attempt=attempt,
        cache=Cache(lab.root),
        folder=folder,
        modes=known_modes(arms, preset, lab) if settings.compile == "auto" else {},
        on_progress=on_progress,
        targets=tuple(candidate),
    )
    started = time.monotonic()
    with jobs.running(folder):
        try:
            outcome = decide.decide(comparison, partial(promise, standings, baseline, catalog))
            comparison.seconds["total"] = time.monotonic() - started
            record = _record(outcome, comparison, asked, standings, lab)
            comparison.forget_races()
        except LabFailure:
            raise  # the jobs' logs stay in the run folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    return record


def known_modes(arms: Mapping[str, Selection], preset: str, lab: Lab) -> dict[str, ModeSpeeds]:
    """By arm the faster mode, where an earlier A/B here found it for exactly these kernels."""
    found = {arm: measured_modes(lab, preset, selection.contents()) for arm, selection in arms.items()}
    return {arm: known.speeds for arm, known in found.items() if known is not None}


def check_new(candidate: Mapping[str, Kernel], baseline: Selection) -> None:
    """Raises LabError where an A/B would compare something with itself, or replace what the trainer does not call."""
    if not candidate:
        raise LabError("an A/B needs at least one candidate kernel")
    for target, kernel in candidate.items():
        used = baseline.kernels.get(target)
        if used is None:
            raise LabError(f"the trainer of this engine has no baseline for target {target}")
        if used.sha256 == kernel.sha256:
            advice = "it is the baseline itself, unedited" if used.role == "baseline" else "compare --against baseline"
            raise LabError(f"{target}={kernel.name} is what the other arm uses already; {advice}")


def describe_dataset(root: Root, name: str) -> dict[str, str]:
    """{"name", "folder", "fingerprint"} of a prepared dataset. Raises LabError where there is none."""
    folder = root.data(name)
    try:
        return {"name": name, "folder": str(folder.resolve()), "fingerprint": Manifest.read(folder).fingerprint}
    except DataError as error:
        raise LabError(str(error)) from None


def request(
    standings: list[Standing], baseline: Selection, preset: str, data: Mapping[str, str], settings: Settings
) -> AbSettings:
    """The settings of the record: what is compared, on what, by which rule."""
    return AbSettings(
        preset=preset,
        dataset=Dataset(name=data["name"], fingerprint=data["fingerprint"]),
        candidate={standing.target.name: standing.recorded() for standing in standings},
        baseline=baseline.recorded(),
        rule=AbRule(**settings.plain()),
        compile=settings.compile,
        contract_sha256=standings[0].target.contract_sha256 if len(standings) == 1 else None,
    )


def _record(
    outcome: AbOutcome, comparison: AbComparison, asked: AbSettings, standings: list[Standing], lab: Lab
) -> AbRecord:
    samples = _save_samples(outcome, comparison, lab.root)
    processes = [ProcessSpeed(**race.plain()) for race in outcome.races]
    results = AbResults(
        reason=outcome.reason,
        look=outcome.look,
        attempt=comparison.attempt,
        alpha=comparison.settings.alpha,
        tokens_per_second=outcome.tokens_per_second,
        ratio=outcome.speed.ratio if outcome.speed else None,
        ratio_lower=outcome.speed.lower if outcome.speed else None,
        ratio_upper=outcome.speed.upper if outcome.speed else None,
        val_bpb=outcome.val_bpb,
        losses=outcome.mean_losses,
        gates={name: gate.recorded() for name, gate in outcome.gates.items()},
        processes=processes,
        process_ratios=[process.ratio for process in processes],
        neutral=outcome.pairs.get("neutral", []),
        benefit=outcome.pairs.get("benefit", []),
        equal_time_steps=outcome.equal_time_steps,
        modes=comparison.modes,
        in_place=comparison.in_place,
        disturbed=outcome.disturbed,
        peak_memory_mb={arm: round(peak, 1) for arm, peak in comparison.peak_memory_mb.items()},
        seconds={name: round(value, 2) for name, value in comparison.seconds.items()},
        reused=comparison.reused,
        compile_caches=comparison.compile_caches,
        remarks=_remarks(outcome, comparison),
    )
    single = standings[0] if len(standings) == 1 else None
    return lab.ledger.append(
        AbRecord,
        **comparison.context.fields(),
        target=single.target.name if single else None,
        kernel=single.kernel.id if single else None,
        workloads=single.bench.workloads if single and single.bench else None,
        seeds=AbSeeds(
            training=sorted(outcome.bpb.get("baseline", {})), race=[race["seed"] for race in comparison.raw_races]
        ),
        settings=asked.model_copy(update={"rule": AbRule(**comparison.settings.plain())}),
        results=results,
        verdict=outcome.verdict,
        artifacts=[Artifact(path=lab.root.relative(samples), sha256=file_sha256(samples))],
    )


def _remarks(outcome: AbOutcome, comparison: AbComparison) -> list[str]:
    remarks = [f"the other arm: {remark}" for remark in comparison.arms["baseline"].remarks]
    if comparison.attempt > 1:
        remarks.append(
            f"attempt {comparison.attempt} with these arms: alpha is {comparison.settings.alpha:.2g} for every gate"
        )
    for arm, found in comparison.modes.items():
        if comparison.settings.compile == "auto" and found.compiled is None:
            remarks.append(f"the {arm} trained eager: {found.reason}")
    return remarks


def _save_samples(outcome: AbOutcome, comparison: AbComparison, root: Root) -> Path:
    """Every raw number of the A/B in one file, named by its content."""
    samples = {"schema": 1, "races": comparison.raw_races, "losses": outcome.losses, "val_bpb": outcome.bpb}
    text = json.dumps(samples)
    path = root.results / "ab" / f"{json_sha256(json.loads(text))[:16]}.json"
    write_atomic(path, text)
    return path
