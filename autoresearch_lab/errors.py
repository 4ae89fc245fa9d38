"""The two ways in which a verb can end badly; the command line turns them into exit codes."""

from collections.abc import Iterator
from contextlib import contextmanager


class LabError(Exception):
    """Bad input or an unusable state that the user can mend. One line; exit code 2."""


class LabFailure(Exception):
    """The lab understood the request and the work failed for a reason of its own. One line; exit code 1."""


@contextmanager
def files_at_hand(doing: str) -> Iterator[None]:
    """What the operating system refuses inside is bad input: `doing` and its reason are the message.

    Raises:
        LabError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise LabError(f"{doing}: {error.strerror or error}") from None
