"""A capture that was taken without training: files, their metadata and the record, as `capture` leaves them."""

from autoresearch_common.hashing import file_sha256
from autoresearch_lab.trace.capture import METADATA, beside
from autoresearch_lab.trace.schema import TracedFile, TraceMetadata, save

from .database import two_steps

GPU = {"kind": "cuda", "name": "Test GPU", "key": "cuda-1"}


def taken(root, ledger, prefix, *, compiled=False, base=None, foreign_load=0.1):
    """(path of the metadata, the metadata) of a trace that Nsight Systems could have taken."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    report, database = beside(prefix, ".nsys-rep"), beside(prefix, ".sqlite")
    report.write_text("a report")
    (base or two_steps()).write(database)
    files = [
        TracedFile(name=path.name, sha256=file_sha256(path), bytes=path.stat().st_size) for path in (report, database)
    ]
    common = {"engine": "cuda", "device": GPU, "software": {"key": "s"}}
    record = ledger.append(
        "capture", **common, settings={"event": "trace", "tool": "nsys"}, results={},
        artifacts=[{"path": root.relative(prefix.with_name(f.name)), "sha256": f.sha256} for f in files],
    )  # fmt: skip
    metadata = TraceMetadata(
        record=record.id, time=record.time, tool="nsys", tool_version="2025.1", **common, preset="upstream",
        dataset={"name": "d", "fingerprint": "f"}, selection={"rope": {"name": "triton_fused", "sha256": "a" * 64}},
        compiled=compiled, steps=2, step_ms=[10.0, 10.0], tokens_per_step=64, batch_size=1, files=files,
        foreign_load=foreign_load,
    )  # fmt: skip
    save(metadata, beside(prefix, METADATA), "capture")
    return beside(prefix, METADATA), metadata
