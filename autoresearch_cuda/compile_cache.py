"""Where torch.compile keeps what it made: a folder for each list of kernels, so that stale code is never found.

The caches of Inductor and AOTAutograd look code up by the graph that was traced. Of a custom operator that holds the
name only: not its backward (pytorch #144344) nor its schema (#187319); in some versions the number of threads is
missing as well (#167463). Here all their files (graphs, generated sources, shared objects, tuning results) lie in
`<cache root>/inductor/<key>`, and the key is a hash of what `keyed_by` lists. A process that loads another list of
kernels, or the same in another order, reads and writes another folder.

Not in the key: files that a kernel reads or imports beside its own and those of this package, and environment variables
that it reads. Outside the folder: Inductor's precompiled headers, which are named by their content, and the cache of
Triton's own, which is keyed by the source of a kernel.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from autoresearch_common import compiler, instruction_set
from autoresearch_common.hashing import json_sha256
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.process import cpu_name
from autoresearch_trainer.record import CompileCache, CompileKey

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
MOST_BYTES = 1 << 30  # of all folders together; one of cpu-nano has 5 MB
# A process may still be at work in a folder that was used so recently.
KEPT_SECONDS = 3600.0

_key: CompileKey | None = None


def keyed_by(kernels: Sequence[KernelFile]) -> CompileKey:
    """What compiled code depends on, the kernels in the order in which they were loaded: where two define the same
    operator, the later one counts."""
    import torch  # takes seconds, and whoever only imports this package need not have it

    try:
        command, version = compiler.find()
    except compiler.CompilerMissing:
        command, version = (), ""
    kernels_use = os.environ.get(instruction_set.VARIABLE) or instruction_set.available()[0].name
    return {
        "kernels": json_sha256([[kernel.target, kernel.sha256] for kernel in kernels]),
        "engine": _engine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "compiler": " ".join([*command, *version.splitlines()[:1]]),
        "threads": torch.get_num_threads(),
        "processor": json_sha256([cpu_name(), sorted(instruction_set.features())]),
        "instructions": f"torch {torch.backends.cpu.get_cpu_capability()}, kernels {kernels_use}",
    }


def follow(kernels: Sequence[KernelFile]) -> None:
    """Point torch.compile at the folder of these kernels, all that this process has loaded so far.

    For `kernel_files.before_loading`. What the environment said before does not count: it is a folder for everything.
    """
    global _key
    _key = keyed_by(kernels)
    os.environ[VARIABLE] = str(_root() / _name(_key))


def try_instructions() -> None:
    """Let Inductor try the compiler on this processor's instruction sets, once for all folders: kernels have no part in
    it (8 s, later 1 s). Inductor remembers the result, so this has to come before the first compilation."""
    folder = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(_root() / "instruction-sets")
    try:
        from torch._inductor import cpu_vec_isa  # a second of imports

        cpu_vec_isa.valid_vec_isa_list()
    finally:
        if folder is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = folder


def used() -> CompileCache | None:
    """What this process took from its folder so far, and left there; None where nothing was compiled.

    The folder counts as used now. The least recently used ones go as soon as all hold more than MOST_BYTES.
    """
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None or _key is None:
        return None
    counts, seconds = dynamo.counters["inductor"], dynamo.calculate_time_spent()["total_wall_time"]
    found, made = counts["fxgraph_cache_hit"], counts["fxgraph_cache_miss"] + counts["fxgraph_cache_bypass"]
    if not found + made:
        return None
    folder = _root() / _name(_key)
    if not folder.is_dir():
        return None  # what was compiled belongs to kernels that this process loaded before these
    os.utime(folder)
    prune(folder.parent, MOST_BYTES)
    return {"name": folder.name, "key": _key, "found": found, "made": made, "seconds": seconds}


def prune(root: Path, most_bytes: int) -> None:
    """Remove the least recently used folders in `root` beyond so many bytes and the empty ones, but none that was just
    used."""
    total, now = 0, time.time()
    for age, folder in sorted((now - path.stat().st_mtime, path) for path in root.iterdir()):
        size = sum(path.lstat().st_size for path in folder.rglob("*"))
        total += size
        if (not size or total > most_bytes) and age > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _name(key: CompileKey) -> str:
    return json_sha256(key)[:32]


def _root() -> Path:
    """The folder of all; one for the life of the process where the cache cannot be written."""
    root = compiler.cache_root() / "inductor"
    try:
        root.mkdir(parents=True, exist_ok=True)
        os.utime(root)
    except OSError:
        root = compiler.temporary_folder() / "inductor"
        root.mkdir(exist_ok=True)
    return root


@cache
def _engine() -> str:
    """Hash of this package's own files: the glue between a kernel's operators and autograd is among them."""
    return compiler.digest(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
