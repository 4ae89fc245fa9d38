"""What a kernel looks like from outside, and how its death is told in words."""

import inspect
import traceback
from pathlib import Path

from autoresearch_trainer.kernel_files import Kernel

MOST_MESSAGE = 500


def signature(function: Kernel) -> list[list[str]] | str:
    """[[name, kind], ...] of the parameters, or why there is no telling."""
    try:
        return [[name, parameter.kind.name] for name, parameter in inspect.signature(function).parameters.items()]
    except (TypeError, ValueError) as error:
        return str(error)


def words(error: BaseException) -> dict[str, str]:
    """Type, first line of the message, and file and line of an exception."""
    message = (str(error).splitlines() or ["no message"])[0][:MOST_MESSAGE]
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "message": message,
        "where": f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "",
    }
