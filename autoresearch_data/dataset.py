"""A prepared dataset: opening one, and telling whether its files are what they should be.

<data>/<name>/dataset.json      the manifest: what the dataset was made from, its fingerprint, every file's hash
              tokenizer/        tokenizer.py
              tokens/           tokens.py, splits `train` and `val`
              corpus/           parquet shards (shards.py); not needed once the tokens exist
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_common.reading import BadFile, first_error, read_json
from autoresearch_data.errors import CorruptDataset, NoDataset
from autoresearch_data.folders import DEFAULT_DATASET, data_dir
from autoresearch_data.sources import SOURCES
from autoresearch_data.tokenizer import Tokenizer
from autoresearch_data.tokens import Count, SplitSummary, Tokens

SCHEMA = 1
MANIFEST_FILE = "dataset.json"
TOKENIZER_FOLDER = "tokenizer"
TOKENS_FOLDER = "tokens"
CORPUS_FOLDER = "corpus"
SPLITS = ("train", "val")
# Up to this size a file's hash is checked whenever the dataset is opened (0.1 s); beyond it, its size.
_HASHED_ON_OPEN_BYTES = 64_000_000


class FileEntry(TypedDict):
    """One file: its size, and its content's hash as lower-case hex."""

    bytes: Count
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Content of dataset.json.

    recipe: everything that decides the documents and the tokenizer.  splits: name -> what it holds.
    files: path below the dataset's folder -> its size and content.
    """

    name: str
    corpus: str
    recipe: dict[str, object]
    splits: dict[str, SplitSummary]
    vocab_size: int
    tokenizer_sha256: str
    files: dict[str, FileEntry]

    @property
    def fingerprint(self) -> str:
        """Hash of the documents of both splits, in order, and of the tokenizer. Names and paths have no part in it."""
        parts = {name: [split.documents, split.sha256] for name, split in self.splits.items()}
        return json_sha256({"schema": SCHEMA, "splits": parts, "tokenizer": self.tokenizer_sha256})

    def to_json(self) -> dict[str, object]:
        return {"schema": SCHEMA, "fingerprint": self.fingerprint, **asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a dataset's manifest. Raises NoDataset where there is none, CorruptDataset where it is damaged."""
        path = folder / MANIFEST_FILE
        try:
            value = read_json(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NoDataset(f"no dataset in {folder}; prepare it with: {prepare_command(folder)}") from error
        except (OSError, BadFile) as error:
            raise CorruptDataset(_corrupt(folder, str(error))) from error
        try:
            if value.pop("schema") != SCHEMA:
                raise ValueError("it was written by another version")
            fingerprint = value.pop("fingerprint")
            manifest = TypeAdapter(cls).validate_python(value)
            if sorted(manifest.splits) != sorted(SPLITS):
                raise ValueError(f"its splits are not {' and '.join(SPLITS)}")
            if any(Path(path).is_absolute() or ".." in Path(path).parts for path in manifest.files):
                raise ValueError("it names a file outside of its folder")
            if manifest.fingerprint != fingerprint:
                raise ValueError("its fingerprint does not match its content")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = first_error(error) if isinstance(error, ValidationError) else error
            raise CorruptDataset(_corrupt(folder, f"{MANIFEST_FILE} cannot be read: {reason}")) from error
        return manifest


class Dataset:
    """A prepared dataset that is open. Made by `open_dataset`."""

    def __init__(self, folder: Path, manifest: Manifest, tokenizer: Tokenizer) -> None:
        self.folder = folder
        self.manifest = manifest
        self.tokenizer = tokenizer

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """SHA-256 over corpus and tokenizer; equal fingerprints mean equal tokens."""
        return self.manifest.fingerprint

    def split(self, name: str) -> Tokens:
        """Tokens of split "train" or "val", memory-mapped. Raises KeyError for another name."""
        if name not in SPLITS:
            raise KeyError(f"unknown split {name!r}; known: {', '.join(SPLITS)}")
        return self._train if name == "train" else self._val

    @cached_property
    def _train(self) -> Tokens:
        return Tokens.open(self.folder / TOKENS_FOLDER, "train")

    @cached_property
    def _val(self) -> Tokens:
        return Tokens.open(self.folder / TOKENS_FOLDER, "val")


def open_dataset(folder: Path | str) -> Dataset:
    """Open a prepared dataset.

    Raises NoDataset (the message names the command that prepares it) where there is none, and CorruptDataset where its
    files are not what its manifest says. Sizes are checked always, contents up to 64 MB per file.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    check_files(folder, manifest, hash_up_to=_HASHED_ON_OPEN_BYTES)
    tokenizer = Tokenizer.load(folder / TOKENIZER_FOLDER)
    if tokenizer.sha256 != manifest.tokenizer_sha256:
        raise CorruptDataset(_corrupt(folder, "the tokenizer is not the one it was prepared with"))
    return Dataset(folder, manifest, tokenizer)


def check_files(folder: Path, manifest: Manifest, hash_up_to: float = float("inf")) -> None:
    """Compare the dataset's files with its manifest: sizes, and the hashes of files of at most `hash_up_to` bytes.

    Raises CorruptDataset that names the first file that differs. The parquet shards are not looked at: they are
    only an intermediate stage.
    """
    for relative, expected in manifest.files.items():
        path = folder / relative
        try:
            size = path.stat().st_size
            if size != expected["bytes"]:
                raise CorruptDataset(_corrupt(folder, f"{relative} has {size} bytes instead of {expected['bytes']}"))
            if size <= hash_up_to and file_sha256(path) != expected["sha256"]:
                raise CorruptDataset(_corrupt(folder, f"the content of {relative} has changed"))
        except OSError as error:
            raise CorruptDataset(_corrupt(folder, f"{relative}: {error.strerror or error}")) from error


def prepare_command(folder: Path) -> str:
    """The command line that prepares the dataset that belongs into `folder`."""
    folder = folder.absolute()
    known = folder.name in (DEFAULT_DATASET, *(source.name for source in SOURCES))
    words = ["python prepare.py --corpus", folder.name if known else DEFAULT_DATASET]
    if not known:
        words += ["--dataset", folder.name]
    if folder.parent != data_dir().absolute():
        words += ["--data-dir", str(folder.parent)]
    return " ".join(words)


def _corrupt(folder: Path, reason: str) -> str:
    return f"dataset in {folder} is damaged: {reason}; prepare it again with prepare.py --force"
