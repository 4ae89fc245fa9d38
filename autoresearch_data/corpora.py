"""The registry of corpora: what `prepare.py --corpus` understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from autoresearch_data.download import answers
from autoresearch_data.errors import DataError
from autoresearch_data.folders import data_dir
from autoresearch_data.hub import DOWNLOADS_FOLDER, HubCorpus, hub_address
from autoresearch_data.local import local_path, standard_library
from autoresearch_data.progress import Reporter
from autoresearch_data.shards import Shards
from autoresearch_data.sources import SOURCES, Source


class Corpus(Protocol):
    """A source of documents. New corpora are entries of REGISTRY, or a path on the command line."""

    name: str

    def recipe(self, reporter: Reporter) -> dict[str, object]:
        """JSON that changes whenever the documents would, without paths of this machine."""

    def materialise(self, folder: Path, reporter: Reporter) -> Shards:
        """Bring the documents into parquet shards; files written for this dataset alone go into `folder`."""


@dataclass(frozen=True)
class Choice:
    """What the command line says about a download. downloads: where files are kept; see HubCorpus for the others."""

    downloads: Path
    train_shards: int | None = None
    hub: str | None = None


def _stdlib(choice: Choice) -> Corpus:
    return standard_library()


def _from_hub(source: Source, choice: Choice) -> Corpus:
    return HubCorpus(source, choice.downloads, choice.train_shards, choice.hub)


REGISTRY: dict[str, tuple[Callable[[Choice], Corpus], str]] = {
    "stdlib": (_stdlib, "sources of the running Python's standard library; needs no network"),
    **{source.name: (partial(_from_hub, source), source.summary) for source in SOURCES},
}


def default_corpus(hub: str | None = None) -> str:
    """climbmix where the hub answers, else stdlib."""
    return "climbmix" if answers(hub_address(hub)) else "stdlib"


def find_corpus(text: str, choice: Choice | None = None) -> Corpus:
    """The corpus called `text`, or the local folder or file at that path. Raises DataError for neither."""
    choice = choice or Choice(data_dir() / DOWNLOADS_FOLDER)
    if choice.train_shards is not None and text not in {source.name for source in SOURCES}:
        raise DataError(f"--shards is for corpora that are downloaded; {text!r} is not one")
    if text in REGISTRY:
        return REGISTRY[text][0](choice)
    path = Path(text).expanduser()
    if path.exists():
        return local_path(path)
    raise DataError(f"unknown corpus {text!r}: no such folder or file, and not one of {', '.join(REGISTRY)}")
