"""From a captured trace to a trace profile: nothing is read that is not what was captured."""

from __future__ import annotations

from pathlib import Path

from autoresearch_common.hashing import file_sha256
from autoresearch_lab import lookup
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.results.record import TraceRecord
from autoresearch_lab.results.trace import DeviceTimes, TraceResults, TraceSettings
from autoresearch_lab.trace import chrome, nsys_database
from autoresearch_lab.trace.attribute import attribute
from autoresearch_lab.trace.capture import METADATA
from autoresearch_lab.trace.rules import LIMITS
from autoresearch_lab.trace.schema import TraceMetadata, TraceProfile, load_metadata
from autoresearch_lab.trace.timeline import Timeline
from autoresearch_trainer.probe.steps import STEP, target_of

WHAT = "trace-profile"


def profile_trace(metadata_path: Path, ledger: Ledger) -> TraceProfile:
    """Read the trace that the metadata names, attribute its device time, and append the record (kind "trace").

    Raises:
        LabError: a file is missing, was changed since it was captured, is not a trace, or shows no work of the device.
    """
    metadata = load_metadata(metadata_path, WHAT)
    check_files(metadata, metadata_path.parent, WHAT)
    timeline = _read(metadata, metadata_path.parent)
    if not timeline.work:
        raise LabError(f"{WHAT}: the trace shows no work of the device: the tool did not see it, or no step was traced")
    known = _recorded(metadata, ledger)
    found = attribute(timeline, metadata.steps)
    result = TraceProfile(
        capture=metadata.record, tool=metadata.tool, engine=metadata.engine, device=metadata.device,
        preset=metadata.preset, compiled=metadata.compiled, foreign_load=metadata.foreign_load, **dict(found),
        remarks=_remarks(metadata, timeline, found, known),
    )  # fmt: skip
    record = ledger.append(
        TraceRecord,
        engine=metadata.engine,
        device=metadata.device,
        software=metadata.software,
        settings=TraceSettings(
            tool=metadata.tool,
            tool_version=metadata.tool_version,
            capture=metadata.record,
            preset=metadata.preset,
            compiled=metadata.compiled,
            selection=metadata.selection,
            files=metadata.files,
        ),
        results=TraceResults(**{name: getattr(result, name) for name in TraceResults.model_fields}),
    )
    return result.model_copy(update={"id": record.id})


def check_files(metadata: TraceMetadata, folder: Path, what: str) -> None:
    """Raises LabError where one of the files beside the metadata is missing or is not what was captured."""
    for file in metadata.files:
        path = folder / file.name
        with files_at_hand(f"{what}: cannot read {path}"):
            same = path.stat().st_size == file.bytes and file_sha256(path) == file.sha256
        if not same:
            raise LabError(f"{what}: {path} was changed after it was captured (its hash differs)")


def _read(metadata: TraceMetadata, folder: Path) -> Timeline:
    # Of what nsys leaves, the database is the last.
    path = folder / metadata.files[-1].name
    try:
        if metadata.tool == "nsys":
            return nsys_database.read(path)
        return chrome.read(path, on_gpu=metadata.device.get("kind") == "cuda")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LabError(f"{WHAT}: {path} is damaged ({type(error).__name__}: {error})") from None


def _recorded(metadata: TraceMetadata, ledger: Ledger) -> bool:
    """Whether this ledger holds the capture. Raises LabError where it does, with other files."""
    record = lookup.by_id(ledger, metadata.record)
    if record is None:
        return False
    if sorted(item.sha256 for item in record.artifacts or ()) != sorted(file.sha256 for file in metadata.files):
        raise LabError(f"{WHAT}: the metadata is not that of the recorded capture {metadata.record[:12]}")
    return True


def _remarks(metadata: TraceMetadata, timeline: Timeline, found: DeviceTimes, known: bool) -> list[str]:
    remarks = []
    if (metadata.foreign_load or 0.0) > LIMITS["busy"]:
        remarks.append(f"other processes used {metadata.foreign_load:.0%} of the machine meanwhile: times are too long")
    if not known:
        remarks.append("the capture is not in this ledger: it was taken elsewhere")
    if not any(one.name == STEP for one in timeline.ranges):
        remarks.append("the trace has no ranges of steps: its whole extent counts")
    if not any(target_of(one.name) for one in timeline.ranges):
        remarks.append("the trace has no ranges of targets: all of its work is unattributed")
    if metadata.compiled:
        remarks.append("compiled: inside the graph there are no ranges, forward and backward show as phases only")
    if found.unlaunched_ms > 0.01 * found.device_ms:
        share = found.unlaunched_ms / found.device_ms
        remarks.append(f"{share:.0%} of the device time has no launching call in the trace")
    return remarks


def metadata_path(path: Path, what: str) -> Path:
    """The metadata file that is meant; a prefix will do.

    Raises:
        LabError: there is neither.
    """
    path = path.expanduser()
    if path.is_file():
        return path
    completed = path.with_name(path.name + METADATA) if path.name else path
    if completed.is_file():
        return completed
    reason = f"it is a folder; name a PREFIX or its PREFIX{METADATA}" if path.is_dir() else "no such file"
    raise LabError(f"{what}: cannot read {path}: {reason}")
