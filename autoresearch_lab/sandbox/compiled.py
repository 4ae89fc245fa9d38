"""What Triton compiled in one confined job, for later ones to begin with. The cache of a confined job lies in its run
folder and goes with it, so each compiles all anew, the baseline's and the library's kernels each time.

Three rules make that trustworthy. Only a job that loads no candidate leaves anything here. It is found under all that
decides it: the contents of every kernel in that job, its calls, engine, device with its driver, and software (PyTorch,
Triton, CUDA, compiler, the lab's own code). And a job gets a copy, before anything of a candidate runs in its folder.
So a candidate can neither leave compiled code for the baseline, nor change what another job begins with. What it
compiled itself is not handed on: nobody could tell it from what it put there. Nor are Inductor's graphs, whose folder
belongs to a list of kernels (autoresearch_cuda/compile_cache.py) that a job with a candidate does not have; what they
launch is Triton's, and is here.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

from autoresearch_common.reading import BadFile, read_json

# Below a job's run folder, as `confine.environment` has it.
TRITON = Path("cache", "triton")
# A group of files names them by where they lay when it was written.
GROUP, PATHS = "__grp__", "child_paths"
MOST_BYTES = 256 << 20


def keep(run_dir: Path, to: Path) -> int:
    """Keep what the job in `run_dir`, which has ended and loaded no candidate, compiled; how many entries. What lies
    there already stays as it is."""
    source = run_dir / TRITON
    if to.exists() or not source.is_dir() or source.is_symlink():
        return 0
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        new = Path(scratch, "new")
        found = _copy(source, new)
        if found:
            try:
                os.rename(new, to)
            except OSError:  # another job was first
                return 0
    return found


def lend(kept: Path, run_dir: Path) -> int:
    """Copy what is kept into the run folder of a job that is yet to begin; how many entries."""
    place = run_dir / TRITON
    if not kept.is_dir() or place.exists() or place.is_symlink():
        return 0
    place.parent.mkdir(parents=True, exist_ok=True)
    found = _copy(kept, place)
    for group in place.glob(f"*/{GROUP}*"):
        _move(group)
    return found


def _copy(source: Path, to: Path) -> int:
    """The regular files of each folder in `source`, links followed nowhere; how many folders."""
    found, total = 0, 0
    for folder in sorted(source.iterdir()):
        if folder.is_symlink() or not folder.is_dir():
            continue
        found += 1
        (to / folder.name).mkdir(parents=True)
        for path in folder.iterdir():
            about = path.lstat()
            total += about.st_size
            if stat.S_ISREG(about.st_mode) and total <= MOST_BYTES:
                shutil.copyfile(path, to / folder.name / path.name, follow_symlinks=False)
    return found


def _move(group: Path) -> None:
    """Let a group name the files beside it; without one that can be read, Triton compiles anew."""
    try:
        names = list(read_json(group)[PATHS])
    except (BadFile, KeyError, TypeError):
        group.unlink()
        return
    beside = {name: str(group.with_name(name)) for name in names if group.with_name(Path(name).name).is_file()}
    group.write_text(json.dumps({PATHS: beside}), encoding="utf-8")
