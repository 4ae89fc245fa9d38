"""A result of benchmarks/gpu.sh as a run on a GPU leaves it, and a folder as a call brings it back."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoresearch_lab.campaign.gpu import archive as evidence
from autoresearch_lab.campaign.gpu.result import GpuResult
from autoresearch_lab.ledger import Ledger

RIVAL = "torch_eager (compiled)"
ROW: dict[str, Any] = {
    "target": "rms_norm", "kernel": "triton_fused", "workload": "rms_norm-00000001", "shapes": [[8, 2048, 512]],
    "calls_per_step": 4.0, "direction": "both", "ratio": 1.5, "interval": [1.4, 1.6], "record": "a" * 64,
    "microseconds": {"baseline": 30.0, "triton_fused": 20.0, RIVAL: 22.0},
    "replayed": {"baseline": 28.0, "triton_fused": 19.0},
    "share_of_ceiling": {"baseline": 0.533, "triton_fused": 0.8, RIVAL: 0.727}, "ceiling": "copy bandwidth",
    "against": {
        "baseline": {"ratio": 1.5, "interval": [1.4, 1.6]}, RIVAL: {"ratio": 1.1, "interval": [1.05, 1.15]},
    },
}  # fmt: skip
SUMMARY = {"tokens_per_second": 1e6, "peak_vram_mb": 2e4, "mfu_percent": 40.0, "val_bpb": 1.2}


def measured() -> dict[str, Any]:
    """With one part that failed, and one test."""
    forward = {**ROW, "direction": "forward"}
    overall = {"to_beat": RIVAL, "ratio": 1.1, "interval": [1.05, 1.15]}
    found = {
        "verify": {"rms_norm=triton_fused": {"verdict": "PASS"}, "rope=triton_fused": {"verdict": "FAIL"}},
        "bench": {"rms_norm=triton_fused": {"verdict": "FASTER", "overall": overall, "rows": [forward, ROW]}},
        "train": {
            "arms": {"baseline": SUMMARY, "triton": {**SUMMARY, "tokens_per_second": 1.1e6}},
            "speedup": 1.1, "val_bpb_difference": -0.001, "left_out": {"rope=triton_fused": "failed verification"},
            "chosen": ["rms_norm"], "rule": "verified and FASTER", "failed": {},
        },
        "capture": {
            "steps": 2, "ranges": {"rms_norm backward": {"calls": 36.0, "us": 400.0}}, "kernels": [], "total_us": 9e4,
        },
        "tests": {
            "passed": 30, "failed": 1, "error": 0, "skipped": 2, "unfinished": True,
            "lines": ["FAILED tests/gpu/test_gpu_kernels.py::test_a[rope] - assert 2 < 1"],
        },
    }  # fmt: skip
    parts = {name: {"state": "done", "reason": "", "seconds": 1.0, "found": about} for name, about in found.items()}
    parts["counters"] = {"state": "failed", "reason": "ncu: no permission", "seconds": 1.0, "found": None}
    machine = {"name": "a GPU", "software": {"torch": "2.11.0"}, "cuda": "13.0"}
    return {"rehearsed": False, "started": "2026-01-01", "seconds": 500.0, "machine": machine, "parts": parts}


def call(
    folder: Path,
    result: dict[str, Any],
    records: Sequence[tuple[str, str]],
    named: Mapping[str, bytes] | None = None,
    there: Mapping[str, bytes] | None = None,
) -> Path:
    """records: (kind, device key). named: {path: content} of the files that each of them names; there: those that the
    archive has, if not the same."""
    folder.mkdir()
    (folder / evidence.RESULT).write_text(json.dumps(result))
    ledger = Ledger(folder / "ledger.jsonl")
    artifacts = [
        {"path": path, "sha256": hashlib.sha256(content).hexdigest()} for path, content in (named or {}).items()
    ]
    for kind, key in records:
        verdict = {"verify": "PASS", "bench": "SAME"}.get(kind)
        about = {"target": "rope", "kernel": {"name": "k", "sha256": "a" * 64}} if verdict else {}
        device = {"kind": "cuda", "key": key}
        ledger.append(
            kind, engine="cuda", device=device, software={"key": "s"}, verdict=verdict, artifacts=artifacts or None,
            **about,
        )  # fmt: skip
    with tarfile.open(folder / evidence.ARCHIVE, "w:gz") as archive:
        archive.add(ledger.path, evidence.LEDGER)
        for path, content in (there if there is not None else named or {}).items():
            member = tarfile.TarInfo(f"{evidence.FILES}/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


def read(result: dict[str, Any]) -> GpuResult:
    """As it is read from its file."""
    return GpuResult.model_validate_json(json.dumps(result))
