"""What a job without a candidate compiled, for the jobs in which a candidate is measured beside that.

The caches of a confined job lie in its run folder. All processes of a bench share one, so that the second finds what
the first compiled; what a candidate does there would meet the baseline in the next. So four rules. Only a job that
loads no candidate leaves anything here. It is found under all that decides it: the contents of every kernel in that
job, its calls, engine, device with its driver, threads, and software (PyTorch, Triton, CUDA, compiler, the lab's own
code). Every job gets a copy, before anything of a candidate runs. And of what earlier jobs left in its folder it
keeps only what stands beside that copy: nothing that takes the place of a file, and nothing in a folder of the copy's
in which a compiler looks for one entry. So a candidate finds its own code again, and can neither leave any for the
baseline nor change what another job begins with. What it compiled is handed on to nobody else.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from autoresearch_common.files import prune
from autoresearch_common.reading import BadFile, read_json
from autoresearch_trainer.jobs.timing import GRAPHS

# Below a job's run folder: as `confine.environment` has it, and as the job `time` does.
TRITON, INDUCTOR = Path("cache", "triton"), Path(GRAPHS)
# A group of Triton's files names them by where they lay when it was written.
GROUP, PATHS = "__grp__", "child_paths"
# Inductor keeps generated code in folders of two letters, under names that say its content: the files of many graphs.
# Every other folder that holds files is an entry, found by the folder's name.
_LETTERS = 2
MOST_BYTES = 256 << 20  # of one job
KEPT_BYTES = 1 << 30  # of all


def keep(run_dir: Path, to: Path) -> int:
    """Keep what the job in `run_dir`, which has ended and loaded no candidate, compiled; how many files. What lies
    there already stays as it is. What was used least recently goes, where all takes more than KEPT_BYTES."""
    if to.exists():
        return 0
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        new = Path(scratch, "new")
        found = sum(_copy(run_dir / part, new / part) for part in (TRITON, INDUCTOR))
        if found:
            try:
                os.rename(new, to)
            except OSError:  # another job was first
                return 0
    prune(to.parent.iterdir(), KEPT_BYTES)
    return found


def lend(kept: Path, run_dir: Path) -> int:
    """Copy what is kept into the run folder of a job that is yet to begin; how many files. What earlier jobs compiled
    in that folder stays beside it."""
    if not kept.is_dir():
        return 0
    os.utime(kept)
    found = 0
    run_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run_dir.parent) as scratch:
        for part in (TRITON, INDUCTOR):
            place, before = run_dir / part, Path(scratch, part.name)
            if place.parent.is_symlink():
                place.parent.unlink()
            if os.path.lexists(place):
                os.rename(place, before)
            found += _copy(kept / part, place)
            _copy(before, place, entries=_entries(place))
    for group in (run_dir / TRITON).glob(f"*/{GROUP}*"):
        _move(group)
    return found


def _files(folder: Path) -> Iterator[Path]:
    """The regular files in a folder and its folders, by their paths within; links are followed nowhere."""
    if folder.is_symlink():
        return
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(place, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path.relative_to(folder)


def _entries(folder: Path) -> set[Path]:
    return {name.parent for name in _files(folder) if len(name.parent.name) > _LETTERS}


def _copy(source: Path, to: Path, entries: Collection[Path] = ()) -> int:
    """Copy the files that `to` lacks, but none of these entries; how many."""
    found, total = 0, 0
    for name in _files(source):
        total += (source / name).lstat().st_size
        if total > MOST_BYTES or os.path.lexists(to / name) or name.parent in entries:
            continue
        with suppress(FileExistsError, NotADirectoryError):  # a file of `to` has the name of a folder
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, to / name, follow_symlinks=False)
            found += 1
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
