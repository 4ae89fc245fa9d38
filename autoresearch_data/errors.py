"""What can go wrong with data. The message is one line for the user; the class says whose fault it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DataError(Exception):
    """Bad input: an unknown corpus, a folder that cannot be written, nothing to read. Front doors exit with code 2."""

    exit_code = 2


class NoDataset(DataError):
    """There is no prepared dataset in the folder asked for. The message names the command that prepares one."""


class CorruptDataset(DataError):
    """A prepared dataset exists, but its files are not what its manifest says."""


class DataFailure(Exception):
    """A run that failed for a reason of its own, such as a server that never answers. Front doors exit with code 1."""

    exit_code = 1


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """The file is read inside. Raises DataError instead of OSError and UnicodeDecodeError."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
