"""The lists of promoted kernels: kernels/promoted.toml (committed) and kernels/promoted.local.toml (the machine's own).

An entry names a kernel by content hash for one engine on one kind of device. For the same engine, device and target the
local file wins, so that a machine can overrule what the project ships, also with the baseline.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import tomli_w
from pydantic import Field, ValidationError

from autoresearch_common.reading import BadFile, first_error, read_toml
from autoresearch_lab.errors import LabError
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.paths import Root
from autoresearch_lab.results.base import KernelId, Mode

SCHEMA = 1
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


def text(entries: Iterable[Promotion]) -> str | None:
    """The file that holds these entries; None where there are none: then there is no file."""
    rows = [entry.model_dump(exclude_none=True) for entry in sorted(entries, key=Promotion.key)]
    return HEADER + tomli_w.dumps({"schema": SCHEMA, "promoted": rows}) if rows else None


def changes(root: Root, local: list[Promotion], shared: list[Promotion]) -> dict[Path, str | None]:
    """What has to be written, as `text`, so that the lists hold these entries."""
    wanted = {root.promoted_shared: shared, root.promoted_local: local}
    return {path: text(entries) for path, entries in wanted.items() if entries != read(path)}


def without(entries: Iterable[Promotion], key: tuple[str, str, str]) -> list[Promotion]:
    """The entries but that for (engine, device, target)."""
    return [entry for entry in entries if entry.key() != key]


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
