"""Captures a trace of the trainer's steady state on the PyTorch engine, with what is needed to read it.

PREFIX.nsys-rep PREFIX.sqlite      Nsight Systems, on an NVIDIA GPU
PREFIX.pt.trace.json.gz            PyTorch's profiler, where there is no nsys and on the CPU
PREFIX.metadata.json               what was traced, with the hashes of the files
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from autoresearch_common.hashing import file_sha256
from autoresearch_lab import jobs
from autoresearch_lab.engine import Engine
from autoresearch_lab.errors import LabError
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.promote.selection import Selection
from autoresearch_lab.results.base import Artifact
from autoresearch_lab.results.record import CaptureRecord
from autoresearch_lab.results.trace import CaptureResults, CaptureSettings, Tool, TracedFile
from autoresearch_lab.sandbox.limits import Limits
from autoresearch_lab.trace import launch, nsys
from autoresearch_lab.trace.schema import TraceMetadata, save
from autoresearch_trainer.jobs import Report
from autoresearch_trainer.jobs.tracing import TRACE, TraceAnswer, TraceArgs
from autoresearch_trainer.train import UNTIMED_STEPS

TOOLS = ("auto", "nsys", "torch")
SUFFIXES: dict[str, tuple[str, ...]] = {"nsys": (".nsys-rep", ".sqlite"), "torch": (".pt.trace.json.gz",)}
METADATA = ".metadata.json"
DEFAULT_STEPS, DEFAULT_SECONDS = 10, 20.0
# What comes before the traced steps: loading, compiling, tuning, warming up; and writing the trace after them.
JOB_SECONDS = 1800.0


@dataclass(frozen=True)
class Request:
    """What to trace. seconds: no step begins after so many; steps: at most so many. warmup: steps before them.
    compiled: the trainer's graph as it trains on a GPU, whose inside has no ranges of targets."""

    preset: str
    dataset_folder: Path
    selection: Selection
    tool: Tool
    compiled: bool = False
    steps: int = DEFAULT_STEPS
    seconds: float = DEFAULT_SECONDS
    warmup: int = UNTIMED_STEPS


def choose_tool(wanted: str, engine: Engine) -> tuple[Tool, str | None]:
    """(tool, remark or None): Nsight Systems on an NVIDIA GPU where there is one, else PyTorch's profiler.

    Raises:
        LabError: nsys was asked for, and there is none or nothing for it to trace.
    """
    if wanted == "torch":
        return "torch", None
    if engine.name != "cuda":
        if wanted == "nsys":
            raise LabError(f"capture: --tool nsys traces NVIDIA GPUs (--engine cuda), not engine {engine.name}")
        return "torch", None
    if wanted == "nsys":
        launch.find("nsys", "capture --tool nsys")
    elif shutil.which("nsys") is None:
        return "torch", "nsys is not on this machine: PyTorch's own profiler takes the trace"
    return "nsys", None


def new_prefix(root: Root, output: Path | None) -> Path:
    """What the names of the files begin with, by default below the results.

    Raises:
        LabError: it is a folder, one of the files exists already, or their folder cannot be written.
    """
    prefix = (output or root.results / "traces" / secrets.token_hex(6)).expanduser()
    if prefix.is_dir():
        raise LabError(f"capture: --output {prefix} is a folder; name what the files' names are to begin with")
    prefix = prefix.resolve()
    for suffix in (METADATA, *(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)):
        if beside(prefix, suffix).exists():
            raise LabError(f"capture: {beside(prefix, suffix)} exists already")
    writable_folder(prefix.parent, "capture")
    return prefix


# Of what the job returns.
MEASURED = ("steps", "step_ms", "tokens_per_step", "batch_size", "foreign_load")


def beside(prefix: Path, suffix: str) -> Path:
    """The prefix's file with that suffix; a prefix may have dots in it."""
    return prefix.with_name(prefix.name + suffix)


def capture(
    lab: Lab,
    request: Request,
    prefix: Path,
    on_progress: Report | None = None,
) -> TraceMetadata:
    """Trace, put the files in their place, append the record (kind "capture") and write the metadata.

    Raises:
        LabError: unknown preset, dataset not prepared, a kernel that does not load, or a place that cannot be written.
        LabFailure: the run or the tool failed.
    """
    with jobs.run_folder(lab.root, "trace") as folder:
        found, version, files = _run(lab.context, request, folder, on_progress)
        traced = _place(files, [beside(prefix, suffix) for suffix in SUFFIXES[request.tool]])
    settings = found.model_dump(include={"dataset", "selection", "compiled"})
    measured = found.model_dump(include=set(MEASURED))
    about = {"tool": request.tool, "tool_version": version, "preset": request.preset}
    places = [prefix.with_name(file.name) for file in traced]
    try:
        record = lab.ledger.append(
            CaptureRecord,
            **lab.context.fields(),
            settings=CaptureSettings.model_validate(
                {"event": "trace", **about, **settings, "time_budget": request.seconds}
            ),
            results=CaptureResults(
                **measured,
                metadata=lab.root.relative(beside(prefix, METADATA)),
                bytes=sum(file.bytes for file in traced),
            ),
            artifacts=[
                Artifact(path=lab.root.relative(place), sha256=file.sha256)
                for place, file in zip(places, traced, strict=True)
            ],
        )
    except BaseException:
        _remove(places)  # without the record nobody can read them, and they would occupy the prefix
        raise
    known = {**lab.context.fields(), **about, **settings, **measured}
    metadata = TraceMetadata.model_validate({"record": record.id, "time": record.time, **known, "files": traced})
    save(metadata, beside(prefix, METADATA), "capture")
    return metadata


def _run(
    context: Context, request: Request, folder: Path, on_progress: Report | None
) -> tuple[TraceAnswer, str | None, list[Path]]:
    """(answer of the job, version of the tool, files in `folder`)."""
    args = TraceArgs(
        preset=request.preset,
        dataset_dir=str(Path(request.dataset_folder).resolve()),
        selection=request.selection.files,
        tool=request.tool,
        compiled=request.compiled,
        steps=request.steps,
        seconds=request.seconds,
        warmup=request.warmup,
    )
    limit = JOB_SECONDS + request.seconds
    if request.tool == "nsys":
        if on_progress is not None:
            on_progress({"stage": "training under nsys"})
        program = launch.find("nsys", "capture")
        found, files = nsys.trace(program, context.engine, args, run_dir=folder, seconds=limit)
        return found, launch.version(program), files
    output = folder / f"trace{SUFFIXES['torch'][0]}"
    found = jobs.call(
        context.engine, TRACE, args.model_copy(update={"output": str(output)}), run_dir=folder,
        limits=Limits(seconds=limit), on_progress=on_progress,
    )  # fmt: skip
    return found, f"torch {context.software.get('torch')}", [output]


def _place(files: list[Path], places: list[Path]) -> list[TracedFile]:
    """Move the files to their places, all of them or none."""
    try:
        for file, place in zip(files, places, strict=True):
            shutil.move(file, place)
        return [TracedFile(name=one.name, sha256=file_sha256(one), bytes=one.stat().st_size) for one in places]
    except BaseException as error:
        _remove(places)
        if isinstance(error, OSError):
            raise LabError(f"capture: cannot write {places[0].parent}: {error.strerror or error}") from None
        raise


def _remove(places: list[Path]) -> None:
    for place in places:
        place.unlink(missing_ok=True)
