"""run.json on the disk: strict JSON, complete or not there at all."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from autoresearch_data.folders import replacing_file
from autoresearch_trainer.errors import ConfigError


def finite(value: Any) -> Any:
    """The JSON value with null in the place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write a finite JSON value; the file is replaced as a whole. Raises ConfigError where it cannot be written."""
    with written(path), replacing_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Raises ConfigError in the place of what a full disk makes of writing `path`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot write {path}: {error}") from error
