"""What an A/B has already measured, so that nothing is run twice: results/kernel_lab/cache/ab/.

A training of fixed length is deterministic: with the same kernels, preset, data, seed, device and software it gives the
same losses and weights, so the baseline's serves every candidate. Races are not; they are kept only until their A/B
is decided, so that one that was killed goes on where it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoresearch_common.files import write_atomic
from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_common.reading import read_json
from autoresearch_lab.paths import Root

SCHEMA = 1


class Cache:
    """Results by key. A key is JSON that names everything the result depends on; its hash is the file's name."""

    def __init__(self, root: Root) -> None:
        self.folder = root.results / "cache" / "ab"

    def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The stored value; None where there is none, or where the file is not what was written."""
        try:
            stored = read_json(self._path(key))
            fits = stored["schema"] == SCHEMA and stored["key"] == key
            return stored["value"] if fits and stored["sha256"] == json_sha256(stored["value"]) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: dict[str, Any], value: dict[str, Any]) -> None:
        stored = {"schema": SCHEMA, "key": key, "value": value, "sha256": json_sha256(value)}
        write_atomic(self._path(key), json.dumps(stored))

    def drop(self, key: dict[str, Any]) -> None:
        self._path(key).unlink(missing_ok=True)

    def weights(self, key: dict[str, Any]) -> Path:
        """Where the weights of that training wait for their evaluation."""
        return self._path(key).with_suffix(".safetensors")

    def has_weights(self, key: dict[str, Any], sha256: str | None) -> bool:
        path = self.weights(key)
        return sha256 is not None and path.is_file() and file_sha256(path) == sha256

    def _path(self, key: dict[str, Any]) -> Path:
        return self.folder / f"{json_sha256(key)[:32]}.json"
