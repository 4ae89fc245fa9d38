"""Where datasets lie, and how files get there: complete or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoresearch_data.errors import DataError

DATA_VARIABLE = "AUTORESEARCH_DATA"
DEFAULT_DATASET = "stdlib"
PARTIAL_MARK = ".partial-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def data_dir(explicit: Path | str | None = None) -> Path:
    """The folder that holds the datasets: `explicit`, else $AUTORESEARCH_DATA, else `data` beside the packages.

    An installed package has no project folder around it; there it is `data` in the current folder.
    """
    if explicit is not None:
        return Path(explicit).expanduser()
    if configured := os.environ.get(DATA_VARIABLE):
        return Path(configured).expanduser()
    project = Path(__file__).resolve().parent.parent
    return (project if (project / "pyproject.toml").is_file() else Path.cwd()) / "data"


def dataset_folder(name: str = DEFAULT_DATASET, explicit: Path | str | None = None) -> Path:
    """Folder of dataset `name`. Raises DataError for a name that is no plain folder name."""
    return data_dir(explicit) / plain_name(name)


def plain_name(name: str) -> str:
    """A dataset's name, as it is. Raises DataError for one that is no plain folder name."""
    if not _NAME.fullmatch(name):
        raise DataError(f"bad dataset name {name!a}: use letters, digits, '.', '_' and '-'")
    return name


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents. Raises DataError where that is impossible or nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        why = "it is a file, not a folder" if isinstance(error, FileExistsError) else error.strerror or error
        raise DataError(f"cannot write in {folder}: {why}") from error


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` that takes its place when the block ends well, and vanishes otherwise.

    The caller holds a lock, so what else lies there is of runs that were killed, and is removed.
    """
    put_back(folder)
    new, old = _beside(folder, "new"), _beside(folder, "old")
    for leftover in folder.parent.glob(_beside(folder, "*").name):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        put_back(folder)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def put_back(folder: Path) -> None:
    """What was there before `folder` comes back where a run was killed, or failed, before the new one had its place.
    The caller holds a lock."""
    old = _beside(folder, "old")
    if old.exists() and not folder.exists():
        old.rename(folder)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}{PARTIAL_MARK}{what}")
