"""What an answer says of kernels and data: a kernel from outside, its death in words, what a trainer ran with."""

import inspect
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoresearch_data.dataset import Dataset
from autoresearch_trainer.jobs.base import DatasetUsed, KernelUsed
from autoresearch_trainer.jobs.calls import Parameter, Raised
from autoresearch_trainer.kernel_files import Kernel, KernelFile

MOST_MESSAGE = 500
_ERROR = re.compile(r"\w*(Error|Exception): ")


def signature(function: Kernel) -> list[Parameter] | str:
    """The parameters, or why there is no telling."""
    try:
        found = inspect.signature(function).parameters.items()
        return [Parameter(name=name, kind=parameter.kind.name) for name, parameter in found]
    except (TypeError, ValueError) as error:
        return str(error)


def words(error: BaseException) -> Raised:
    """Type, first line of the message (and the last where that names an error of its own, as TorchScript's does), and
    file and line of an exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    message = " ".join([lines[0], *filter(_ERROR.match, lines[1:][-1:])])[:MOST_MESSAGE]
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Raised(type=type(error).__name__, message=message, where=where)


def trained(dataset: Dataset, kernels: Mapping[str, KernelFile]) -> dict[str, Any]:
    """The fields of a `TrainerAnswer`."""
    return {
        "dataset": DatasetUsed(name=dataset.name, fingerprint=dataset.fingerprint),
        "selection": {target: KernelUsed(name=kernel.name, sha256=kernel.sha256) for target, kernel in kernels.items()},
    }
