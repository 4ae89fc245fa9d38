"""A profile that was taken before, as long as everything that belongs to it is still there."""

from __future__ import annotations

from autoresearch_common.hashing import file_sha256
from autoresearch_lab import evidence, workloads
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.profile.schema import Profile, load
from autoresearch_lab.promote.selection import Selection
from autoresearch_lab.results.record import ProfileRecord


def known_profile(lab: Lab, preset: str, fingerprint: str, selection: Selection) -> Profile | None:
    """The newest profile here of that training whose file and captured calls are whole; None: take a new one.

    fingerprint: that of the dataset.
    """
    for record in evidence.profiles_here(lab, preset, fingerprint, selection.recorded()):
        try:
            if (found := _read(lab, record)) is not None:
                return found
        except (OSError, LabError):
            continue  # the files that belong to the record are lost or damaged
    return None


def _read(lab: Lab, record: ProfileRecord) -> Profile | None:
    """Raises OSError or LabError where a file is missing, or is not what was recorded."""
    artifact = next(iter(record.artifacts or ()), None)
    if artifact is None or file_sha256(lab.root.path / artifact.path) != artifact.sha256:
        return None
    found = load(lab.root.path / artifact.path).model_copy(update={"id": record.id})
    for reference in found.workloads.values():
        workloads.load(lab.root.path / reference.path, expected=reference.sha256)
    return found
