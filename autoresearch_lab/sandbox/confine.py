"""What a process that runs code of others is cut off from; called in the child before anything of the job is loaded.

It may write below its run folder only, read what Python, the compiler and the kernels need, use no network, and leave
other processes alone. Whatever this system cannot enforce is returned by name and ends up in the record.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from autoresearch_common import instruction_set
from autoresearch_lab.paths import CHECKOUT, PACKAGES
from autoresearch_lab.sandbox import landlock, seccomp

_PR_SET_NO_NEW_PRIVS = 38
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/sys")
# Of /proc the machine's own files and this process, not the environments of others.
_PROC = (
    "self", "cpuinfo", "meminfo", "stat", "loadavg", "version", "filesystems", "devices", "modules", "sys", "driver",
)  # fmt: skip
_DEVICES = ("/dev",)
# NVIDIA's driver names its threads in /proc while it starts, and gives up where it cannot. Landlock knows no files that
# are yet to come, so all that lies there can be written; found through /proc/self it is that of this process alone.
_GPU_DEVICES = (*_DEVICES, "/proc/self/task")
# Of the checkout the code is readable, the results are not.
_CODE = (*PACKAGES, "kernels")
# For a GPU whose driver does not start confined: "seccomp", "landlock" or both, separated by a comma, are left out of
# what confines jobs on that GPU. Their records say so. Read before any code of others runs.
WITHOUT = "KERNEL_LAB_GPU_WITHOUT"
# Variables that a job may see; everything else (tokens, sockets, sessions) stays with the parent.
_ENVIRONMENT = {
    "PATH", "LANG", "TZ", "USER", "LOGNAME", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHASHSEED",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CC", "CXX", "CPATH", "LIBRARY_PATH", "SDKROOT",
    instruction_set.VARIABLE, WITHOUT,
}  # fmt: skip
_ENVIRONMENT_PREFIXES = (
    *("LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "CUDA_", "NVIDIA_", "TORCH_", "TRITON_", "MLX_"),
)


def confine(run_dir: Path, readable: Iterable[str] = (), gpu: bool = False) -> list[str]:
    """Cut this process off; returns what could not be enforced.

    run_dir: the one folder that stays writable. readable: further files and folders that the job has to read. gpu: an
    NVIDIA driver has to start in this process (see `seccomp.install` and `_GPU_DEVICES`); what the variable `WITHOUT`
    names is then left out, and returned.
    """
    if sys.platform != "linux":
        return ["writes outside the run folder", "reads", "network", "memory of other processes", "one process group"]
    _prefer_as_victim()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return ["no new privileges", "writes outside the run folder", "reads", "network", "one process group"]
    without = _left_out() if gpu else set()
    system = [*map(Path, _SYSTEM), *(Path("/proc", name) for name in _PROC)]
    read = [*system, *_python_folders(), *(CHECKOUT / name for name in _CODE), *map(Path, readable)]
    failed = list(landlock.UNENFORCED)
    if "landlock" not in without:
        failed = landlock.restrict(
            write=[run_dir],
            read=dict.fromkeys(path.resolve() for path in read),
            # The import system lists every folder on its path, also the one that the code's packages lie in.
            enumerate_only=[CHECKOUT],
            devices=map(Path, _GPU_DEVICES if gpu else _DEVICES),
        )
    return failed + (list(seccomp.UNENFORCED) if "seccomp" in without else seccomp.install(gpu))


def _left_out() -> set[str]:
    """What `WITHOUT` names. Raises ValueError for a word that means nothing."""
    words = {word.strip() for word in os.environ.get(WITHOUT, "").split(",")} - {""}
    if unknown := words - {"landlock", "seccomp"}:
        raise ValueError(f"{WITHOUT}: unknown word {sorted(unknown)[0]!r}; known: landlock, seccomp")
    return words


def discard_scratch(run_dir: Path) -> None:
    """Remove the caches and temporary files of confined jobs (see `environment`): Inductor alone leaves 150 MB."""
    for name in ("cache", "tmp"):
        shutil.rmtree(run_dir / name, ignore_errors=True)


def environment(full: dict[str, str], run_dir: Path) -> dict[str, str]:
    """The environment of a confined job: what computing needs, with home, caches and temporary files in `run_dir`."""
    kept = {k: v for k, v in full.items() if k in _ENVIRONMENT or k.startswith(_ENVIRONMENT_PREFIXES)}
    temporary, cache = run_dir / "tmp", run_dir / "cache"
    for folder in (temporary, cache):
        folder.mkdir(parents=True, exist_ok=True)
    places = {
        "TMPDIR": temporary,
        "HOME": run_dir,
        "XDG_CACHE_HOME": cache,
        "AUTORESEARCH_CACHE": cache,
        "TRITON_CACHE_DIR": cache / "triton",
        "TORCHINDUCTOR_CACHE_DIR": cache / "inductor",
        "TORCH_EXTENSIONS_DIR": cache / "extensions",
    }
    # Inductor's pool of compile workers needs semaphores in /dev/shm, which a confined job cannot make.
    alone = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    return {**kept, **alone, **{name: str(path) for name, path in places.items()}}


def _python_folders() -> list[Path]:
    """Where this interpreter, its packages and the programs on PATH lie, home and checkout themselves excepted."""
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    programs = os.environ.get("PATH", "").split(os.pathsep)
    folders = [Path(entry) for entry in (*prefixes, *sys.path, *programs) if entry]
    too_wide = {Path("/"), CHECKOUT, Path.home(), Path("/home"), Path("/root"), Path("/tmp")}
    return [folder for folder in folders if folder.is_absolute() and folder.resolve() not in too_wide]


def _prefer_as_victim() -> None:
    """Where memory runs out, let the system end this process and not the one that judges it."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        pass
