"""Where torch.compile keeps what it made, and what it may find there, so that code is never stale.

The caches of Inductor and AOTAutograd look a graph up by what was traced. Of a custom operator that holds the name
only: not its backward (pytorch #144344) nor its schema (#187319); in some versions the number of threads is missing
as well (#167463). So all their files lie in `<cache root>/inductor/<a hash of the machine's and the software's part
of what keyed_by lists>`, and graphs are looked up there with a hash of the kernels' part besides (`cache_key_tag`,
which PyTorch has for that): a process that loads another list of kernels, or the same in another order, finds no
graph of this one. The C++ that graphs are made of does not know kernels. It is found by its own content and flags,
and shared by all lists: of a compiled step most of it is the same whatever kernels are in use.

Not in the key: files that a kernel reads or imports beside its own and those of this package, and environment variables
that it reads. Outside the folder: Inductor's precompiled headers, which are named by their content, and the cache of
Triton's own, which is keyed by the source of a kernel.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from autoresearch_common import compiler, instruction_set
from autoresearch_common.files import prune
from autoresearch_common.hashing import json_sha256
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.process import cpu_name
from autoresearch_trainer.record import CompileCache, CompileKey

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
MOST_BYTES = 1 << 30  # of all folders together; the first step of cpu-nano leaves 5 MB

_key: CompileKey | None = None
_compiled_before = (0, 0)  # what was compiled before the last kernels were loaded


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
    """Point torch.compile at the folder and the graphs of these kernels, all that this process has loaded so far.

    For `kernel_files.before_loading`. What the environment said before does not count: it is for whatever is compiled.
    """
    global _key, _compiled_before
    _key, _compiled_before = keyed_by(kernels), _compiled()
    _look_in(_folder(_key), tag=_key["kernels"])


def stay_in(folder: Path) -> None:
    """Point torch.compile at a folder that no other list of kernels uses, but for parts of this one."""
    _look_in(folder, tag="")


def _look_in(folder: Path, tag: str) -> None:
    from torch.compiler import config

    os.environ[VARIABLE] = str(folder)
    config.cache_key_tag = tag


def try_instructions() -> None:
    """Let Inductor try the compiler on this processor's instruction sets, once for all folders: kernels have no part in
    it (8 s). Inductor remembers the result, so this has to come before the first compilation."""
    folder = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(_root() / "instruction-sets")
    try:
        from torch._inductor import cpu_vec_isa  # a second of imports

        with _libraries_loaded_once(cpu_vec_isa.VecISA):
            cpu_vec_isa.valid_vec_isa_list()
    finally:
        if folder is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = folder


@contextmanager
def _libraries_loaded_once(isa: Any) -> Iterator[None]:
    """Within it Inductor loads no library, in a process of its own, that one of its processes could load before (1.5 s
    for four of them). A PyTorch without that method, as before 2.13, goes on as it does."""
    load = getattr(isa, "_probe_load", None)
    if load is None:
        yield
        return

    def loads(self: Any, path: str) -> bool:
        mark = Path(f"{path}.loads")
        if mark.exists():
            return True
        found = bool(load(self, path))
        if found:
            with suppress(OSError):
                mark.touch()
        return found

    isa._probe_load = loads
    try:
        yield
    finally:
        isa._probe_load = load


def used() -> CompileCache | None:
    """What this process took from the cache so far, and left there; None where nothing was compiled with the kernels
    that it loaded last.

    The least recently used files go as soon as all hold more than MOST_BYTES.
    """
    if _key is None or _compiled() == _compiled_before:
        return None
    (found, made), seconds = _compiled(), sys.modules["torch._dynamo.utils"].calculate_time_spent()["total_wall_time"]
    prune((path for path in _root().rglob("*") if path.is_file()), MOST_BYTES)
    return {"name": json_sha256(_key)[:32], "key": _key, "found": found, "made": made, "seconds": seconds}


def _compiled() -> tuple[int, int]:
    """(graphs found in the cache, graphs made)."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return 0, 0
    counts = dynamo.counters["inductor"]
    return counts["fxgraph_cache_hit"], counts["fxgraph_cache_miss"] + counts["fxgraph_cache_bypass"]


def _folder(key: CompileKey) -> Path:
    return _root() / json_sha256({name: value for name, value in key.items() if name != "kernels"})[:32]


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
