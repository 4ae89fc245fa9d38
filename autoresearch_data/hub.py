"""Corpora that are downloaded: parquet files of dataset repositories on the Hugging Face hub or a mirror of it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from autoresearch_common.files import replacing_file
from autoresearch_common.reading import read_json
from autoresearch_data.download import Patience, Remote, download_all, fetch_json
from autoresearch_data.errors import DataError, DataFailure
from autoresearch_data.folders import make_folder
from autoresearch_data.progress import Reporter, note_nulls
from autoresearch_data.shards import VALIDATION_PERMILLE, Shards, Unit, count_rows, read_texts, write_shuffled
from autoresearch_data.sources import Source

HUB_VARIABLE = "HF_ENDPOINT"  # the variable that the hub's own tools use for mirrors
DEFAULT_HUB = "https://huggingface.co"
DOWNLOADS_FOLDER = ".downloads"
_SHARD_ROWS = 100_000


@dataclass
class HubCorpus:
    """A corpus on the hub. downloads: folder that keeps the files for other datasets and for a later run.

    train_shards: number of training files, None for the source's default.  hub: base address, None for $HF_ENDPOINT or
    huggingface.co.
    """

    source: Source
    downloads: Path
    train_shards: int | None = None
    hub: str | None = None
    patience: Patience = field(default_factory=Patience)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.source.name
        self.hub = hub_address(self.hub)
        self.train_shards = self.source.default_shards if self.train_shards is None else self.train_shards
        most = len(self.source.train) or math.inf
        if not 1 <= self.train_shards <= most:
            raise DataError(f"corpus {self.name} has training shards 1 to {most}, not {self.train_shards}")

    def recipe(self, reporter: Reporter) -> dict[str, object]:
        """Needs no network: a prepared dataset is recognised without one."""
        return {
            "kind": "hub",
            "repository": self.source.repository,
            "revision": self.source.revision,
            "train_shards": self.train_shards,
            "minimum": list(self.source.minimum) if self.source.minimum else None,
            "validation_permille": None if self._has_validation else VALIDATION_PERMILLE,
        }

    @property
    def _has_validation(self) -> bool:
        return bool(self.source.validation or self.source.validation_prefix)

    def materialise(self, folder: Path, reporter: Reporter) -> Shards:
        """Download what is missing; convert it where rows have to be left out or held out."""
        make_folder(self.downloads)
        own = self.downloads / self.source.repository.replace("/", "--")
        try:
            with FileLock(self.downloads / f"{own.name}.lock", timeout=0):
                train, validation = self._names(own)
                paths = {name: own / name for name in (*train, *validation)}
                remotes = [Remote(self._url(name), path) for name, path in paths.items()]
                download_all(remotes, reporter, patience=self.patience)
        except Timeout as error:
            raise DataError(f"another run is downloading {self.source.repository}") from error
        train_paths, validation_paths = [paths[name] for name in train], [paths[name] for name in validation]
        if validation and not self.source.minimum:
            return Shards(train_paths, validation_paths, self.source.column)
        folder.mkdir(parents=True, exist_ok=True)
        rows = count_rows(train_paths, self.source.column)
        nulls: list[int] = []
        with reporter.stage(f"shuffling {self.name}", rows, "rows") as stage:
            units = self._units(train_paths, stage.advance, nulls.append)
            shards = write_shuffled(units, folder, max(1, math.ceil(rows / _SHARD_ROWS)))
        note_nulls(sum(nulls), self.name, reporter)
        return shards

    def _units(self, paths: list[Path], advance: Any, on_null: Callable[[int], None]) -> Iterator[Unit]:
        for text in read_texts(paths, self.source.column, advance, self.source.minimum, on_null):
            yield Unit(hashlib.sha256(text.encode("utf-8")).digest(), [text])

    def _names(self, own: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the training and validation files to use."""
        source = self.source
        if source.train:
            return source.train[: self.train_shards], source.validation
        listing = self._listing(own / "listing.json")
        train = tuple(name for name in listing if name.startswith(source.train_prefix))
        validation = tuple(
            name for name in listing if source.validation_prefix and name.startswith(source.validation_prefix)
        )
        if not train or (source.validation_prefix and not validation):
            raise DataFailure(f"{source.repository} no longer has the files that corpus {self.name} is made of")
        if self.train_shards is not None and self.train_shards > len(train):
            raise DataError(f"corpus {self.name} has training shards 1 to {len(train)}, not {self.train_shards}")
        return train[: self.train_shards], validation

    def _listing(self, cache: Path) -> list[str]:
        """Parquet files of the repository, sorted; asked for once and then kept beside the downloads."""
        if cache.is_file():
            try:
                return [str(name) for name in read_json(cache)]
            except ValueError:
                cache.unlink()
        revision = urllib.parse.quote(self.source.revision, safe="")
        url: str | None = f"{self.hub}/api/datasets/{self.source.repository}/tree/{revision}?recursive=true"
        names = []
        while url:
            entries, following = fetch_json(url, self.patience)
            try:
                names += [entry["path"] for entry in entries if entry["type"] == "file"]
            except (TypeError, KeyError) as error:
                raise DataFailure(f"{url} did not answer with a list of files") from error
            # A mirror may pass on the hub's own addresses; only their path and query count.
            parts = urllib.parse.urlsplit(following or "")
            url = f"{self.hub}{parts.path}?{parts.query}" if following else None
        names = sorted(name for name in names if name.endswith(".parquet") and ".." not in name.split("/"))
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(cache) as temporary:
            temporary.write_text(json.dumps(names), encoding="utf-8")
        return names

    def _url(self, name: str) -> str:
        revision = urllib.parse.quote(self.source.revision, safe="")
        return f"{self.hub}/datasets/{self.source.repository}/resolve/{revision}/{urllib.parse.quote(name)}"


def hub_address(explicit: str | None = None) -> str:
    """Base address of the hub, without a trailing slash. Raises DataError for what is no http(s) address."""
    address = (explicit or os.environ.get(HUB_VARIABLE) or DEFAULT_HUB).rstrip("/")
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise DataError(f"bad hub address {address!r}: give http://host or https://host")
    return address
