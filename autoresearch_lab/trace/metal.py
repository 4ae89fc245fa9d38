"""GPU traces of an Apple GPU, recorded by Metal for Xcode."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_lab import jobs
from autoresearch_lab.errors import LabError
from autoresearch_lab.hardware import has_apple_gpu
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.promote.selection import Selection
from autoresearch_lab.results.base import Dataset, KernelId
from autoresearch_lab.results.record import MetalCaptureRecord
from autoresearch_lab.results.trace import MetalCaptureResults, MetalCaptureSettings
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.tracing import GPUTRACE, GputraceArgs

JOB_SECONDS = 1800.0


def require_metal() -> None:
    """Raises LabError where there is no Apple GPU."""
    if not has_apple_gpu():
        raise LabError("capture: there is no Metal here: GPU traces take an Apple GPU")


def new_trace(root: Root, output: Path | None) -> Path:
    """Where the trace is to be written, by default below the results.

    Raises:
        LabError: the name does not end in .gputrace, is taken, or its folder cannot be written.
    """
    path = (output or root.results / "traces" / f"{secrets.token_hex(6)}.gputrace").expanduser().resolve()
    if path.suffix != ".gputrace":
        raise LabError(f"capture: --output {path} must end in .gputrace, or Xcode does not open it")
    if path.exists():
        raise LabError(f"capture: {path} exists already")
    writable_folder(path.parent, "capture")
    return path


def capture(
    lab: Lab,
    *,
    preset: str,
    dataset_folder: Path,
    selection: Selection,
    steps: int,
    output: Path,
    on_progress: Report | None = None,
) -> MetalCaptureRecord:
    """Record `steps` training steps into `output` and append the record (kind "capture").

    Raises:
        LabError: unknown preset, no dataset, a kernel that does not load, or no Metal.
        JobFailed: the run itself failed.
    """
    args = GputraceArgs(
        preset=preset,
        dataset_dir=str(Path(dataset_folder).resolve()),
        selection=selection.files,
        steps=steps,
        output=str(output),
    )
    limits, variables = Limits(seconds=JOB_SECONDS), {"MTL_CAPTURE_ENABLED": "1"}
    with jobs.running(lab.root.runs / f"gputrace-{secrets.token_hex(4)}") as run_dir:
        found = jobs.call(
            lab.context.engine, GPUTRACE, args,
            run_dir=run_dir, limits=limits, variables=variables, on_progress=on_progress,
        )  # fmt: skip
    try:
        return lab.ledger.append(
            MetalCaptureRecord,
            **lab.context.fields(),
            settings=MetalCaptureSettings(
                event="gputrace",
                preset=preset,
                steps=steps,
                dataset=Dataset(**found.dataset.model_dump()),
                selection={name: KernelId(**kernel.model_dump()) for name, kernel in found.selection.items()},
            ),
            results=MetalCaptureResults(
                trace=lab.root.relative(output),
                trace_sha256=folder_sha256(output),
                **_size(output),
                tokens_per_step=found.tokens_per_step,
            ),
        )
    except BaseException:
        # Without the record it cannot be reviewed, and it would occupy the name.
        shutil.rmtree(output, ignore_errors=True) if output.is_dir() else output.unlink(missing_ok=True)
        raise


def folder_sha256(path: Path) -> str:
    """Hash of a file, or of all files below a folder with their names: a trace is either."""
    if path.is_file():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return json_sha256([[file.relative_to(path).as_posix(), file_sha256(file)] for file in files])


def _size(path: Path) -> dict[str, int]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}
