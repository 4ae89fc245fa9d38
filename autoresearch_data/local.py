"""Corpora that are already on this machine: the standard library's sources, and any local folder or file."""

from __future__ import annotations

import hashlib
import math
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256
from autoresearch_common.reading import open_regular
from autoresearch_data.documents import DOCUMENT_CHARACTERS, split_text
from autoresearch_data.errors import DataError, readable
from autoresearch_data.json_lines import JSON_LINES, read_json_lines
from autoresearch_data.progress import Reporter, note_nulls
from autoresearch_data.shards import VALIDATION_PERMILLE, Shards, Unit, read_texts, write_shuffled

TEXT_SUFFIXES = (".txt", ".md", ".py")
RECORD_SUFFIXES = (*JSON_LINES, ".parquet")
# With fewer files than this, single files would decide the split; then every document is a unit of its own.
_FILES_TO_SPLIT_BY = 20
_SHARD_BYTES = 64_000_000
_INSTALLATION_FOLDERS = ("site-packages", "dist-packages", "__pycache__")
_INSTALLATION_FILES = ("_sysconfigdata", "sitecustomize.py", "usercustomize.py")


@dataclass
class LocalCorpus:
    """Files that become documents. Text files are cut (documents.py); a JSON line or a parquet row is a document.

    name: what the user called it.  files: in any order; their content alone decides the result.
    """

    name: str
    files: list[Path]
    skipped: list[Path] = field(default_factory=list, init=False)
    nulls: int = field(default=0, init=False)

    def recipe(self, reporter: Reporter) -> dict[str, object]:
        """Everything that decides the documents, as JSON: no paths, only content."""
        with reporter.stage(f"checking {self.name}", self._size(), "bytes") as stage:
            hashes = []
            for path in self.files:
                with readable(path):
                    hashes.append(_kind(path) + ":" + file_sha256(path))
                stage.advance(path.stat().st_size)
        digest = hashlib.sha256("\n".join(sorted(hashes)).encode("ascii")).hexdigest()
        return {
            "kind": "local",
            "files": len(self.files),
            "sha256": digest,
            "document_characters": DOCUMENT_CHARACTERS,
            "validation_permille": VALIDATION_PERMILLE,
        }

    def materialise(self, folder: Path, reporter: Reporter) -> Shards:
        """Write the shards into `folder`. Raises DataError for a file that is not what its name says."""
        folder.mkdir(parents=True, exist_ok=True)
        with reporter.stage(f"reading {self.name}", self._size(), "bytes") as stage:
            units = self._units(stage.advance)
            shards = write_shuffled(units, folder, max(1, math.ceil(self._size() / _SHARD_BYTES)))
        if self.skipped:
            reporter.note(f"skipped {len(self.skipped)} files that are not UTF-8, such as {self.skipped[0].name}")
        note_nulls(self.nulls, self.name, reporter)
        return shards

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def _units(self, advance: Any) -> Iterator[Unit]:
        self.skipped, self.nulls = [], 0
        by_file = sum(_kind(path) in TEXT_SUFFIXES for path in self.files) >= _FILES_TO_SPLIT_BY
        for path in self.files:
            suffix = _kind(path)
            if suffix == ".parquet":
                documents: Iterator[str] = read_texts([path], on_null=self._count_nulls)
            elif suffix in JSON_LINES:
                documents = read_json_lines(path, suffix, self._count_nulls)
            else:
                with readable(path), open_regular(path) as file:
                    content = file.read()
                try:
                    pieces = split_text(content.decode("utf-8"))
                except UnicodeDecodeError:
                    self.skipped.append(path)
                    pieces = []
                if by_file:
                    yield Unit(hashlib.sha256(content).digest(), pieces)
                    pieces = []
                documents = iter(pieces)
            for text in documents:
                yield Unit(hashlib.sha256(text.encode("utf-8")).digest(), [text])
            advance(path.stat().st_size)

    def _count_nulls(self, count: int) -> None:
        self.nulls += count


def standard_library() -> LocalCorpus:
    """The sources of the running Python's standard library, its tests included where they are installed.

    Left out is what an installation writes for itself (paths and compilers of this machine), so that the same Python
    gives the same corpus wherever it is installed. Raises DataError where there are no sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in root.rglob("*.py") if _is_original(path.relative_to(root)) and path.is_file())
    if not files:
        raise DataError(f"this Python has no standard library sources in {root}")
    return LocalCorpus("stdlib", files)


def _is_original(relative: Path) -> bool:
    folders = relative.parts[:-1]
    if any(folder in _INSTALLATION_FOLDERS for folder in folders) or (folders and folders[0].startswith("config-")):
        return False
    return not relative.name.startswith(_INSTALLATION_FILES)


def local_path(path: Path) -> LocalCorpus:
    """Any file, or every file of the known kinds in a folder and below it; hidden files and folders are left out.

    Raises DataError where there is nothing to read.
    """
    known = TEXT_SUFFIXES + RECORD_SUFFIXES
    if path.is_file():
        if _kind(path) not in known:
            raise DataError(f"{path}: not one of {', '.join(known)}")
        return LocalCorpus(path.name, [path])
    files = sorted(
        file
        for file in path.rglob("*")
        if _kind(file) in known
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.is_file()
    )
    if not files:
        raise DataError(f"{path} holds no files of the kinds {', '.join(known)}")
    return LocalCorpus(path.resolve().name, files)


def _kind(path: Path) -> str:
    """What its name says that a file is: the known end of it, else its suffix."""
    name = path.name.lower()
    return next((suffix for suffix in JSON_LINES if name.endswith(suffix)), path.suffix.lower())
