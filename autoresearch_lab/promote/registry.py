"""The lists of promoted kernels: kernels/promoted.toml (committed) and kernels/promoted.local.toml (the machine's own).

An entry names a kernel by content hash for one engine on one kind of device. For the same engine, device and target the
local file wins, so that a machine can overrule what the project ships, also with the baseline.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import tomli_w
from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from autoresearch_common.hashing import json_sha256
from autoresearch_common.reading import BadFile, first_error, read_toml
from autoresearch_lab.errors import LabError
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.paths import Root, write_atomic
from autoresearch_lab.results.base import KernelId, Mode

SCHEMA = 1
LOCK_SECONDS = 30.0
_REMEDY = "mend it, or remove it to go back to the baseline"
HEADER = "# Kernels that won their A/B. Written by `promote` and `demote`; used only while device and hash match.\n"


class Promotion(StrictModel):
    """One promoted kernel. modes: the runs that use it, eager or compiled. evidence: ledger id of the A/B that it won;
    null where a baseline is put back."""

    engine: str
    device: str
    target: str
    kernel: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    modes: list[Mode] = list(get_args(Mode))
    evidence: str | None = None
    time: str = ""

    @property
    def id(self) -> KernelId:
        """The kernel as records name it."""
        return KernelId(name=self.kernel, sha256=self.sha256)

    def key(self) -> tuple[str, str, str]:
        return (self.engine, self.device, self.target)


class _File(StrictModel):
    schema_: int = Field(SCHEMA, alias="schema")
    promoted: list[Promotion] = []


def read(path: Path) -> list[Promotion]:
    """The entries of one file; none where the file does not exist.

    Raises:
        LabError: the file cannot be read, is not TOML, or is not such a list.
    """
    try:
        file = _File.model_validate(read_toml(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LabError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise LabError(f"{path}: {first_error(error)}; {_REMEDY}") from None
    except BadFile as error:
        raise LabError(f"{error}; {_REMEDY}") from None
    if file.schema_ != SCHEMA:
        raise LabError(f"{path}: schema {file.schema_} is not {SCHEMA}, the one this version reads")
    return file.promoted


def write(path: Path, entries: list[Promotion]) -> None:
    """Replace the file by these entries in one step; without entries the file goes.

    Raises:
        LabError: the folder cannot be written.
    """
    try:
        if not entries:
            path.unlink(missing_ok=True)
            return
        rows = [entry.model_dump(exclude_none=True) for entry in sorted(entries, key=Promotion.key)]
        write_atomic(path, HEADER + tomli_w.dumps({"schema": SCHEMA, "promoted": rows}))
    except OSError as error:
        raise LabError(f"{path}: cannot be written: {error.strerror or error}") from None


def put(path: Path, entry: Promotion) -> None:
    """Add the entry, in place of one for the same engine, device and target."""
    with _locked(path):
        write(path, [old for old in read(path) if old.key() != entry.key()] + [entry])


def take_out(path: Path, key: tuple[str, str, str]) -> Promotion | None:
    """Remove the entry for (engine, device, target) and return it; None where there was none."""
    with _locked(path):
        entries = read(path)
        found = next((entry for entry in entries if entry.key() == key), None)
        if found is not None:
            write(path, [entry for entry in entries if entry.key() != key])
    return found


def everywhere(root: Root) -> list[Promotion]:
    """The entries for all engines and devices, the local file over the committed one."""
    listed = [*read(root.promoted_shared), *read(root.promoted_local)]
    return list({entry.key(): entry for entry in listed}.values())


def in_force(root: Root, engine: str, device_key: str) -> dict[str, Promotion]:
    """{target: entry} for this engine and device."""
    return {entry.target: entry for entry in everywhere(root) if (entry.engine, entry.device) == (engine, device_key)}


def any_entries(root: Root, engine: str) -> bool:
    """Whether anything is promoted for this engine on any device (so that the device need not be asked for nothing)."""
    return any(entry.engine == engine for entry in everywhere(root))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock for the file; it lies in the system's temporary folder, so that kernels/ stays clean.

    Raises:
        LabError: another process holds it too long.
    """
    name = f"autoresearch-{os.getuid()}-{json_sha256(str(path.resolve()))[:16]}.lock"
    try:
        with FileLock(Path(tempfile.gettempdir()) / name, timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise LabError(f"{path}: locked by another process for {LOCK_SECONDS:.0f} s") from None
