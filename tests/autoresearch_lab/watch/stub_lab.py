"""A lab in which nothing ever ran, with the files of an orchestration and of a training under way:

    python tests/autoresearch_lab/watch/stub_lab.py docs/watch.svg     # the picture of docs/watch.md
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from autoresearch_lab import device_lock
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.status import CandidateStatus, StatusFile
from autoresearch_lab.training_progress import PROGRESS_FILE, TrainingEnd, TrainingStart, TrainingStep

KERNEL = {"name": "cpp_fused", "sha256": "0" * 64}


def write_training(folder: Path, steps: int = 200, val_bpb: float | None = None, **start: object) -> Path:
    """progress.jsonl of a run whose loss falls; ended where it has a val_bpb."""
    folder.mkdir(parents=True, exist_ok=True)
    path, now = folder / PROGRESS_FILE, time.time()
    lines = [
        TrainingStart(
            time=now, preset="cpu-nano", dataset="stdlib", parameters=1_400_000, flops_per_token=9e6, peak_flops=1e12,
            **start,
        )  # fmt: skip
    ]
    for step in range(1, steps + 1):
        loss, done = 2.7 + 6 * math.exp(-step / 20) + 10 / (step + 20), 0.9 * step / steps
        about = {"step": 10 * step, "progress": done, "loss": loss, "seconds": 300 * done, "memory_mb": 812.0}
        lines.append(TrainingStep(time=now, tokens_per_second=29_950 + step, **about))
    if val_bpb is not None:
        lines.append(TrainingEnd(time=now, status="complete", val_bpb=val_bpb))
    path.write_text("".join(line.model_dump_json() + "\n" for line in lines))
    return path


def write_work(root: Root) -> StatusFile:
    """The status file of an orchestration in its third step."""
    names = ["rms_norm=cpp_fused", "adamw_update=cpp_fused", "loss_head=cpp_fused", "rope=cpp_fused"]
    root.results.mkdir(parents=True, exist_ok=True)
    status = StatusFile("orchestrate", "cpu", root.results / "status-cpu.json")

    def states(*steps: str | None) -> list[CandidateStatus]:
        return [
            CandidateStatus(candidate=name, step=step, reason="promoted" if step is None else "")
            for name, step in zip(names, steps, strict=True)
        ]

    for label, step, after in (
        (names[0], "verify", states("verify", "verify", "verify", "verify")),
        (names[0], "bench", states("bench", "verify", "verify", "verify")),
        (names[1], "bench", states(None, "bench", "verify", "extract")),
    ):
        status.line(f"{step}: {label}")
        status.step(label, step, after)
        for row in status.now.candidates:
            row.since = row.since and row.since - 25
    status.now.began -= 80
    status.stage("process 3 of 8", None, 6, 20)
    return status


def write_evidence(root: Root) -> None:
    ledger = Ledger(root.ledger)
    ledger.append("verify", target="rms_norm", kernel=KERNEL, verdict="PASS", results={"reason": ""})
    found = {"ratio": 1.656, "interval": [1.602, 1.711], "reason": ""}
    ledger.append("bench", target="rms_norm", kernel=KERNEL, verdict="FASTER", results=found)
    speed = {"passed": True, "ratio": 1.448, "lower": 1.395, "upper": 1.503}
    loss = {"passed": True, "delta": 0.0, "lower": -0.0023, "upper": 0.0023}
    found = {"gates": {"speed": speed, "neutral": loss}, "reason": "all gates passed"}
    ledger.append("ab", target="rms_norm", kernel=KERNEL, verdict="PROMOTE", results=found)
    table = root.path / "runs" / "results.tsv"
    table.parent.mkdir(exist_ok=True)
    rows = ["3d1da92\t2.056600\t1.7\tdone\tthe baseline", "95da80b\t1.759000\t1.7\tdone\tpromoted kernels"]
    table.write_text("commit\tval_bpb\tmemory_gb\tstatus\tdescription\n" + "".join(f"{row}\n" for row in rows))


async def picture(root: Root) -> str:
    """The view in 80 x 24, as SVG."""
    from autoresearch_lab.watch.screen import WatchApp
    from autoresearch_lab.watch.snapshot import Watcher

    app = WatchApp(Watcher(Lab(root)).read)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause(1.5)
        return app.export_screenshot(title="kernel-lab watch")


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(device_lock, "all_holders") as holders:
        holders.return_value = {"cpu": ["kernel-lab orchestrate (process 4711, since 2026-11-28T22:10:03+00:00)"]}
        root = Root(Path(folder) / "lab")
        root.path.mkdir()
        write_work(root)
        write_training(root.path / "runs" / "last")
        write_evidence(root)
        svg = asyncio.run(picture(root)).replace(folder, "")
    out.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
