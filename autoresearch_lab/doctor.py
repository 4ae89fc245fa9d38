"""What this machine can and cannot do, and what to install: nothing here needs a framework to be importable."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import psutil

from autoresearch_common.compiler import HeadersMissing, python_headers
from autoresearch_data.dataset import Manifest, check_files
from autoresearch_data.errors import DataError
from autoresearch_lab import lookup
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.device_lock import holders
from autoresearch_lab.engine import ENGINES, TRAINERS, automatic
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.hardware import amd, detect, has_apple_gpu, output, processor, suggest_preset
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root, writable_folder
from autoresearch_lab.profile.schema import load as load_profile
from autoresearch_lab.promote.selection import lost_promotions
from autoresearch_lab.sandbox.probe import not_enforced_here
from autoresearch_lab.workspace.folder import LOCK, read_lock
from autoresearch_trainer.probe.identity import installed, installed_triton
from autoresearch_trainer.process import usable_cores

State = Literal["ok", "missing", "problem"]
LOW_DISK_GB = 5.0


@dataclass(frozen=True)
class Diagnosis:
    """One line of the answer. `needed` = without it the lab cannot work at all here; `remedy` says what to do."""

    group: str
    name: str
    state: State
    detail: str
    remedy: str = ""
    needed: bool = False

    def plain(self) -> dict[str, str | bool]:
        return asdict(self)


def examine(root: Root, ledger: Ledger) -> list[Diagnosis]:
    """Every check, in the order in which a person wants to read them."""
    return [*engines(), *_software(), *_tools(), *datasets(root), *_state(root, ledger), confinement()]


def usable(findings: list[Diagnosis], engine: str = "auto") -> bool:
    """Whether that engine can run (auto: any one) and nothing that is needed has a problem."""
    runs = {finding.name for finding in findings if finding.group == "engine" and finding.state == "ok"}
    return bool(runs if engine == "auto" else engine in runs) and not any(
        finding.needed and finding.state != "ok" for finding in findings
    )


def engines() -> list[Diagnosis]:
    """Each engine: can it run here, and if not, why."""
    chosen = automatic()
    found = []
    for name, engine in TRAINERS.items():
        reason = engine.unavailable()
        if reason is None:
            preset, why = suggest_preset(detect(name))
            about = f"default preset {preset} for {why}" + (", chosen by --engine auto" if name == chosen else "")
            about += "" if name in ENGINES else "; for train.py alone"
            found.append(Diagnosis("engine", name, "ok", about))
        else:
            why, _, remedy = reason.partition("; install it with: ")
            found.append(Diagnosis("engine", name, "missing", why, remedy))
    return found


def _software() -> list[Diagnosis]:
    found = [Diagnosis("software", "python", "ok", platform.python_version())]
    for package, use, extra in (
        ("torch", "the PyTorch engine", "cpu"),
        ("triton", "Triton kernels, also without a GPU", "triton"),
        ("mlx", "the MLX engine", "mlx"),
        ("nvtx", "ranges in GPU traces", "cuda"),
        ("ray", "orchestrate --executor ray", "ray"),
        ("textual", "kernel-lab watch", "watch"),
    ):
        if present := installed_triton() if package == "triton" else installed(package):
            found.append(Diagnosis("software", package, "ok", present))
        else:
            remedy = f"pip install -e '.[{extra}]'"
            found.append(Diagnosis("software", package, "missing", f"needed for {use}", remedy))
    return found


def _tools() -> list[Diagnosis]:
    memory = psutil.virtual_memory().total / 2**30
    cores, usable = psutil.cpu_count(logical=False), usable_cores()
    limited = f" ({usable} for this process)" if usable != cores else ""
    found = [
        Diagnosis(
            "machine",
            "cpu",
            "ok",
            f"{processor(output, sys.platform).name}, {cores} cores{limited}, {memory:.0f} GiB, {platform.system()}",
        ),
        _gpu(),
        *_amd_gpu(),
        _compiler(),
        _headers(),
        _allocator(),
        *_mlx(),
        _tool("nsys", "Nsight Systems: capture on NVIDIA GPUs", "the package nsight-systems-cli"),
        _tool("ncu", "Nsight Compute: deep-profile on NVIDIA GPUs", "the package nsight-compute"),
        _tool("objdump", "deep-profile of C++ kernels", "the package binutils"),
        _tool("perf", "time by line in deep-profile of C++ kernels", "the package linux-perf"),
    ]
    if sys.platform == "darwin":
        found.append(_metal())
    return found


def _gpu() -> Diagnosis:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    answer = output(query).splitlines()
    if answer:
        return Diagnosis("machine", "nvidia gpu", "ok", "; ".join(line.strip() for line in answer))
    why = "nvidia-smi finds none" if shutil.which("nvidia-smi") else "there is no nvidia-smi"
    return Diagnosis("machine", "nvidia gpu", "missing", why)


def _amd_gpu() -> list[Diagnosis]:
    """Nothing where there is none; whether this PyTorch is built for it, the engine's line says."""
    gpu = amd()
    return [Diagnosis("machine", "amd gpu", "ok", gpu.describe())] if gpu else []


def _compiler() -> Diagnosis:
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return Diagnosis("machine", "c++ compiler", "ok", output([name, "--version"]).partition("\n")[0] or name)
    remedy = "xcode-select --install" if sys.platform == "darwin" else "install the package g++"
    return Diagnosis("machine", "c++ compiler", "missing", "needed for the CPU kernels", remedy)


def _headers() -> Diagnosis:
    try:
        return Diagnosis("machine", "python headers", "ok", str(python_headers()))
    except HeadersMissing as error:
        why, _, remedy = str(error).partition("; ")
        return Diagnosis("machine", "python headers", "missing", f"{why}: a CPU trains uncompiled", remedy)


def _allocator() -> Diagnosis:
    """Whether freed memory can be kept: the largest single gain of a trainer on the CPU."""
    if platform.libc_ver()[0] == "glibc":
        return Diagnosis("machine", "malloc thresholds", "ok", "glibc: the trainer keeps freed memory (mallopt)")
    return Diagnosis("machine", "malloc thresholds", "missing", "only glibc has them; the allocator is used as it is")


def _mlx() -> list[Diagnosis]:
    """What MLX computes on here; nothing where it is not installed, which the software's lines say already."""
    if not installed("mlx"):
        return []
    if has_apple_gpu():
        return [Diagnosis("machine", "mlx device", "ok", "Apple GPU: everything")]
    if not (installed("mlx-cpu") or sys.platform == "darwin"):
        why = "mlx is installed without a backend for this system"
        return [Diagnosis("machine", "mlx device", "problem", why, "pip install -e '.[mlx]'")]
    detail = "CPU build: trainer and lab run, slowly; its evidence is about this processor alone"
    cannot = "run Metal kernels (verify compiles them for the CPU), capture GPU traces, or time anything for one"
    return [
        Diagnosis("machine", "mlx device", "ok", detail),
        Diagnosis("machine", "metal", "missing", f"there is no Apple GPU: MLX cannot {cannot} here"),
    ]


def _metal() -> Diagnosis:
    developer = output(["xcode-select", "-p"]).strip()
    compiler = output(["xcrun", "-f", "metal"]).strip()
    if compiler:
        return Diagnosis("machine", "metal compiler", "ok", compiler)
    detail = f"developer tools at {developer}, without the Metal compiler" if developer else "no developer tools"
    remedy = "install Xcode (GPU traces need it); kernels themselves do not"
    return Diagnosis("machine", "metal compiler", "missing", detail, remedy)


def _tool(name: str, use: str, package: str) -> Diagnosis:
    path = shutil.which(name)
    if path:
        return Diagnosis("machine", name, "ok", path)
    return Diagnosis("machine", name, "missing", f"needed for {use}", f"install {package}")


def datasets(root: Root) -> list[Diagnosis]:
    """Prepared datasets, by their manifests and the sizes of their files."""
    folder = root.datasets
    found = []
    for manifest in sorted(folder.glob("*/dataset.json")):
        name = manifest.parent.name
        try:
            read = Manifest.read(manifest.parent)
            check_files(manifest.parent, read, hash_up_to=-1)  # hashes are for whoever opens it
            found.append(Diagnosis("data", name, "ok", f"{manifest.parent}, fingerprint {read.fingerprint[:12]}"))
        except DataError as error:
            remedy = f"python prepare.py --corpus {name} --force"
            found.append(Diagnosis("data", name, "problem", str(error), remedy))
    if not found:
        remedy = "python prepare.py --corpus stdlib"
        found.append(Diagnosis("data", "datasets", "missing", f"none prepared in {folder}", remedy))
    return found


def _state(root: Root, ledger: Ledger) -> list[Diagnosis]:
    """The lab's own folders and its ledger."""
    if not root.path.is_dir():
        return [Diagnosis("lab", "root", "problem", f"no folder {root.path}", "name an existing one with --root", True)]
    free = shutil.disk_usage(root.path).free / 2**30
    state: State = "ok" if free >= LOW_DISK_GB else "problem"
    remedy = "" if state == "ok" else "profiles, datasets and checkpoints take a few GB: make room"
    found = [Diagnosis("lab", "free disk", state, f"{free:.1f} GiB at {root.path}", remedy)]
    found.append(_guard("results folder", lambda: f"{writable_folder(root.results, 'results')} can be written"))
    found.append(_guard("run folders", lambda: f"{writable_folder(root.runs, 'run folders')} can be written"))
    found.append(_guard("ledger", lambda: _ledger_detail(ledger)))
    found += _lost_promotions(root) + _unfounded_promotions(root, ledger)
    found += _damaged(root)
    for device in sorted({engine.device for engine in ENGINES.values()}):
        found += [Diagnosis("lab", f"device {device}", "ok", f"in use by {holder}") for holder in holders(device)]
    return found


def _lost_promotions(root: Root) -> list[Diagnosis]:
    """Kernels that the user believes to be in the trainer, or in the catalogue, and that are not."""
    try:
        catalog = load_catalog(root)
        lost = lost_promotions(catalog, root)
    except LabError as error:
        return [Diagnosis("lab", "promoted kernels", "problem", str(error), needed=True)]
    remedy = "put the file back, or promote or demote it"
    found = [Diagnosis("lab", "promoted kernel", "problem", line, remedy) for line in lost]
    for target in catalog.values():
        for entry in target.missing:
            what = f"{target.name}={entry.name} is listed, and {entry.file} is missing"
            found.append(Diagnosis("lab", "kernel", "problem", what, "put the file back, or take it from target.toml"))
    return found


def _unfounded_promotions(root: Root, ledger: Ledger) -> list[Diagnosis]:
    with suppress(LabError):  # a list or a ledger that cannot be read has a line of its own
        remedy = "put the ledger back, or demote it"
        return [Diagnosis("lab", "promoted kernel", "problem", line, remedy) for line in lookup.unfounded(root, ledger)]
    return []


def _damaged(root: Root) -> list[Diagnosis]:
    """Profiles and workspaces that cannot be read; targets and promoted kernels have lines of their own."""
    profiles = [path for path in (root.path / "profile.json", root.results / "profile.json") if os.path.lexists(path)]
    locks = sorted(root.workspaces.glob(f"*/{LOCK}"))
    asked: list[tuple[str, Callable[[], object]]] = [(str(path), partial(load_profile, path)) for path in profiles]
    asked += [(path.parent.name, partial(read_lock, path.parent)) for path in locks]
    found = []
    for name, read in asked:
        try:
            read()
        except LabError as error:
            found.append(Diagnosis("lab", name, "problem", str(error)))
    return found


def confinement() -> Diagnosis:
    """What a job that runs others' code is cut off from here, as it found out itself: without that the lab works, and
    its records say what was missing."""
    try:
        with tempfile.TemporaryDirectory(prefix="kernel-lab-doctor-") as folder:
            missing = not_enforced_here(Path(folder))
    except (LabError, LabFailure, OSError) as error:
        return Diagnosis("lab", "confinement", "problem", f"no confined job runs here: {error}")
    if not missing:
        return Diagnosis("lab", "confinement", "ok", "jobs that run kernels are cut off; each forbidden act was tried")
    remedy = "run nobody's kernels here that you have not read; records say what is missing"
    return Diagnosis("lab", "confinement", "problem", f"not enforced on this system: {', '.join(missing)}", remedy)


def _guard(name: str, check: Callable[[], str]) -> Diagnosis:
    """A check that complains by raising LabError; all of these are needed for any work."""
    try:
        return Diagnosis("lab", name, "ok", check(), needed=True)
    except LabError as error:
        return Diagnosis("lab", name, "problem", str(error), needed=True)


def _ledger_detail(ledger: Ledger) -> str:
    ledger.check()
    problems = ledger.problems()
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise LabError(f"{ledger.path}: {problems[0]}{more}")
    return f"{ledger.count()} records, chain intact"
