"""`fit`: which shape of the trainer suits this machine, from the request to the ledger's record."""

from __future__ import annotations

from collections.abc import Callable

from autoresearch_common.hashing import json_sha256
from autoresearch_data.dataset import Manifest
from autoresearch_data.errors import DataError
from autoresearch_lab import jobs
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import newest_here
from autoresearch_lab.fit.course import FitCourse
from autoresearch_lab.fit.training import ShapeTrainer
from autoresearch_lab.lab import Lab
from autoresearch_lab.promote.selection import resolve
from autoresearch_lab.results.base import Dataset
from autoresearch_lab.results.fit import FitSettings
from autoresearch_lab.results.record import FitRecord
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.plan import DEFAULT_SECONDS


def fit_settings(
    lab: Lab, preset: str, dataset: str, minutes: float | None, seed: int, foreign_limit: float
) -> FitSettings:
    """The request, as it is recorded. Raises LabError for no such dataset."""
    try:
        data = Manifest.read(lab.root.data(dataset))
    except DataError as error:
        raise LabError(str(error)) from None
    kernels = resolve("promoted", load_catalog(lab.root), lab.context, lab.root)
    return FitSettings(
        preset=preset,
        dataset=Dataset(name=data.name, fingerprint=data.fingerprint),
        minutes=minutes,
        horizon=DEFAULT_SECONDS,
        seed=seed,
        foreign_limit=foreign_limit,
        kernels=kernels.recorded(),
    )


def fit(
    lab: Lab,
    settings: FitSettings,
    listen: Report = lambda message: None,
    tell: Callable[[str], None] = lambda line: None,
) -> FitRecord:
    """Find the shape and append the record. What an earlier call finished is taken over; a fit that is done is not made
    again, but where other processes disturbed it.

    Raises:
        LabError: train.py refuses the preset or the dataset.
        LabFailure: the default preset itself does not train.
    """
    for record in newest_here(lab, FitRecord):
        if record.settings == settings and not record.results.disturbed:
            tell(f"this fit is done: record {record.id[:12]}")
            return record
    # The budget divides, and the limit judges, what is the same training.
    same = settings.model_dump(mode="json", exclude={"minutes", "foreign_limit", "seed", "preset"})
    identity = json_sha256([same, lab.context.keys()])
    with jobs.run_folder(lab.root, "fit", identity[:12]) as folder:
        dataset = lab.root.data(settings.dataset.name)
        cache, limit = Cache(lab.root), settings.foreign_limit
        trainer = ShapeTrainer(lab.root, lab.engine, dataset, folder, cache, identity, limit, listen)
        verdict, found = FitCourse(trainer, settings, tell).run()
    return lab.ledger.append(FitRecord, **lab.context.fields(), settings=settings, results=found, verdict=verdict)
