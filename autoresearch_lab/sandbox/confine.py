"""What a process that runs code of others is cut off from; called in the child before anything of the job is loaded.

It may write below its run folder only, read what Python, the compiler and the kernels need, use no network, share no
memory by name, and leave other processes alone; root's jobs are not root. Whatever this system says that it cannot
enforce is returned by name; whether the rest holds, `attempts` finds out.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from autoresearch_common import instruction_set
from autoresearch_lab.paths import CHECKOUT, PACKAGES
from autoresearch_lab.sandbox import attempts, landlock, seccomp, user

_PR_SET_NO_NEW_PRIVS = 38
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix")
# Of the machine's settings what the loader, the C library, compilers and GPUs' libraries look up; no passwords.
_SETTINGS = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "alternatives", "localtime", "timezone",
    "locale.alias", "locale.conf", "passwd", "group", "nsswitch.conf", "os-release", "debian_version", "machine-id",
    "mime.types", "OpenCL", "vulkan", "nvidia", "nv_tegra_release",
)  # fmt: skip
# Of the system's tree of devices what describes the machine.
_MACHINE = ("devices", "class", "bus", "module", "dev", "fs/cgroup", "kernel/mm")
# Of /proc the machine's own files and this process, not the environments of others.
_PROC = (
    "self", "cpuinfo", "meminfo", "stat", "loadavg", "version", "filesystems", "devices", "modules", "sys", "driver",
)  # fmt: skip
# No disk, no memory, and nothing in /dev/shm, where others could find it.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
_GPUS = ("nvidia*", "dxg", "dri", "kfd", "nvhost*", "nvmap")
# NVIDIA's driver names its threads in /proc while it starts, and gives up where it cannot. Landlock knows no files that
# are yet to come, so all that lies there can be written; found through /proc/self it is that of this process alone.
_THREADS = "/proc/self/task"
# Of the checkout the code is readable, the results are not.
_CODE = (*PACKAGES, "kernels")
# For a GPU whose driver does not start confined: "seccomp", "landlock" or both, separated by a comma, are left out of
# what confines jobs on that GPU. Their records say so. Read before any code of others runs.
WITHOUT = "KERNEL_LAB_GPU_WITHOUT"
# Variables that a job may see; everything else (tokens, sockets, sessions) stays with the parent.
_ENVIRONMENT = {
    "PATH", "LANG", "TZ", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHASHSEED",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CC", "CXX", "CPATH", "LIBRARY_PATH", "SDKROOT",
    instruction_set.VARIABLE, WITHOUT,
}  # fmt: skip
_ENVIRONMENT_PREFIXES = (
    *("LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "CUDA_", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "ROCM_"),
    *("TORCH_", "TRITON_", "MLX_"),
)

# Where a confined job finds these, by its run folder.
_TEMPORARY, _CACHE = "tmp", "cache"
_PLACES = {
    "TMPDIR": _TEMPORARY,
    "HOME": "",
    "XDG_CACHE_HOME": _CACHE,
    "AUTORESEARCH_CACHE": _CACHE,
    "TRITON_CACHE_DIR": f"{_CACHE}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{_CACHE}/inductor",
    "TORCH_EXTENSIONS_DIR": f"{_CACHE}/extensions",
}
# Variables that differ from one job to the next; what is imported before a fork must not keep what they say.
OF_ONE_JOB = frozenset(_PLACES)
# Each C++ compiler takes some hundred megabytes.
MOST_COMPILERS = 8


def confine(run_dir: Path, readable: Iterable[str] = (), gpu: bool = False) -> list[str]:
    """Cut this process off; returns what could not be enforced.

    run_dir: the one folder that stays writable. readable: further files and folders that the job has to read; of a
    folder what is hidden in it (.env, .netrc) stays closed. gpu: an NVIDIA driver has to start in this process (see
    `seccomp.install` and `_THREADS`); what the variable `WITHOUT` names is then left out, and returned.

    A process of root's becomes one of a user of its own (see `user`).
    """
    if sys.platform != "linux":
        return list(attempts.ALWAYS)
    _prefer_as_victim()
    folders, files = _without_hidden(map(Path, readable))
    code = [CHECKOUT / name for name in _CODE]
    if os.geteuid() == 0 and (not gpu or _open_to_all(_gpu_devices())):
        user.become(run_dir, [*_python_folders(), *code, *folders, *files])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return ["no new privileges", "writes outside the run folder", "reads", "network", "one process group"]
    without = _left_out() if gpu else set()
    system = [*map(Path, _SYSTEM), *(Path("/etc", name) for name in _SETTINGS)]
    system += [*(Path("/proc", name) for name in _PROC), *(Path("/sys", name) for name in _MACHINE)]
    devices = [*map(Path, _DEVICES), *_gpu_devices()]
    failed = list(landlock.UNENFORCED)
    if "landlock" not in without:
        failed = landlock.restrict(
            write=[run_dir],
            read=dict.fromkeys(path.resolve() for path in [*system, *_python_folders(), *_programs(), *code, *files]),
            # The import system lists every folder on its path, also the one that the code's packages lie in.
            enumerate_only=[CHECKOUT, Path("/dev"), *folders],
            devices=[*devices, Path(_THREADS)] if gpu else devices,
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
    for name in (_CACHE, _TEMPORARY):
        shutil.rmtree(run_dir / name, ignore_errors=True)


def environment(full: dict[str, str], run_dir: Path, gpu: bool = False) -> dict[str, str]:
    """The environment of a confined job: what computing needs, with home, caches and temporary files in `run_dir`.

    gpu: its graphs are compiled for an NVIDIA GPU.
    """
    kept = {k: v for k, v in full.items() if k in _ENVIRONMENT or k.startswith(_ENVIRONMENT_PREFIXES)}
    for name in (_TEMPORARY, _CACHE):
        (run_dir / name).mkdir(parents=True, exist_ok=True)
    # Inductor compiles Triton code in a pool of processes, which needs semaphores in /dev/shm that a confined job
    # cannot make, and which would still be there while kernels are timed; C++ it compiles in threads. A user of its own
    # (see `user`) has no entry in /etc/passwd, where libraries look its name up that find none here.
    threads = 1 if gpu else min(MOST_COMPILERS, os.cpu_count() or 1)
    own = {"TORCHINDUCTOR_COMPILE_THREADS": str(threads), "TORCH_WARM_POOL": "0"}
    own |= {"USER": user.NAME, "LOGNAME": user.NAME}
    return {**kept, **own, **{name: str(run_dir / place) for name, place in _PLACES.items()}}


def _python_folders() -> list[Path]:
    """Where this interpreter and its packages lie."""
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable)))
    return _narrow((*prefixes, *sys.path))


def _programs() -> list[Path]:
    """Where the programs on PATH lie."""
    return _narrow(os.environ.get("PATH", "").split(os.pathsep))


def _narrow(entries: Iterable[str]) -> list[Path]:
    """Those that are folders of their own: not the checkout, nobody's home, and nothing that homes lie in."""
    too_wide = {CHECKOUT, Path("/tmp"), Path("/home"), Path("/root"), Path("/")}
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir).resolve()  # HOME is the run folder by now
        too_wide |= {home, *home.parents}
    except KeyError:
        pass  # a user without a name has no home
    folders = [Path(entry) for entry in entries if entry]
    return [folder for folder in folders if folder.is_absolute() and folder.resolve() not in too_wide]


def _without_hidden(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """(the folders among them, the files and what lies in the folders, but for what is hidden or points elsewhere)."""
    folders, files = list[Path](), list[Path]()
    for path in paths:
        if path.is_dir():
            folders.append(path)
            files += [entry for entry in path.iterdir() if not (entry.name.startswith(".") or entry.is_symlink())]
        else:
            files.append(path)
    return folders, files


def _gpu_devices() -> list[Path]:
    return [path for pattern in _GPUS for path in Path("/dev").glob(pattern)]


def _open_to_all(devices: Iterable[Path]) -> bool:
    """Whether every user may use these devices, and NVIDIA's are all there: root alone can make the missing ones."""
    modes = {path.name: path.stat().st_mode for path in devices}
    whole = "nvidiactl" not in modes or "nvidia-uvm" in modes
    return whole and all(mode & 0o006 == 0o006 for mode in modes.values() if stat.S_ISCHR(mode))


def _prefer_as_victim() -> None:
    """Where memory runs out, let the system end this process and not the one that judges it."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        pass
