"""Builds a dataset from a corpus: shards -> tokenizer -> tokens -> manifest, complete or not at all."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from autoresearch_common.files import replacing_file
from autoresearch_common.hashing import file_sha256
from autoresearch_data.corpora import Corpus
from autoresearch_data.dataset import (
    CORPUS_FOLDER,
    MANIFEST_FILE,
    TOKENIZER_FOLDER,
    TOKENS_FOLDER,
    Dataset,
    FileEntry,
    Manifest,
    check_files,
    open_dataset,
)
from autoresearch_data.errors import CorruptDataset, DataError, NoDataset
from autoresearch_data.folders import make_folder, put_back, replacing_folder
from autoresearch_data.progress import Reporter, note_nulls
from autoresearch_data.shards import Shards, count_rows, read_texts
from autoresearch_data.tokenizer import SPECIAL_TOKENS, SPLIT_PATTERN, VOCAB_SIZE, Tokenizer
from autoresearch_data.tokens import SplitSummary, write_tokens


@dataclass(frozen=True)
class Prepared:
    """Outcome of `prepare`. seconds: wall time.  reused: everything was there already and valid."""

    dataset: Dataset
    seconds: float
    reused: bool


def prepare(
    corpus: Corpus,
    folder: Path,
    reporter: Reporter | None = None,
    *,
    force: bool = False,
    like: Path | None = None,
) -> Prepared:
    """Make `folder` a valid dataset of `corpus`. Does nothing if it is one already, unless `force`.

    like: a dataset whose tokenizer and validation split this one gets, so that runs on both can be compared; all
    documents of the corpus that are not held out there are trained on.

    The dataset is built in a folder beside it and renamed into place, so an interrupted run changes nothing.
    Raises DataError for a folder that cannot be written, that another run works on, that holds something else than a
    dataset, or whose dataset was made from another corpus; and what the corpus raises.
    """
    started = time.monotonic()
    reporter = reporter or Reporter()
    other = open_dataset(like) if like else None
    if other is not None and other.folder.resolve() == folder.resolve():
        raise DataError(f"{folder} cannot be prepared like itself; choose another --dataset")
    make_folder(folder.parent)
    _refuse_foreign(folder)
    try:
        with FileLock(folder.parent / f".{folder.name}.lock", timeout=0):
            recipe: dict[str, object] = {
                **({"like": other.fingerprint} if other else {}),
                "corpus": corpus.recipe(reporter),
                "vocab_size": VOCAB_SIZE,
                "pattern": SPLIT_PATTERN,
                "special_tokens": list(SPECIAL_TOKENS),
            }
            put_back(folder)
            reused = not force and _is_valid(corpus, folder, recipe, reporter)
            if not reused:
                with replacing_folder(folder) as new:
                    _build(corpus, new, recipe, reporter, other, folder.name)
    except Timeout as error:
        raise DataError(f"another run is preparing {folder}") from error
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from error
    return Prepared(open_dataset(folder), time.monotonic() - started, reused)


def _refuse_foreign(folder: Path) -> None:
    """Never replace a folder that is not a dataset: it may be somebody's work."""
    if folder.exists() and not (folder / MANIFEST_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is no dataset; choose another --dataset or remove it")


def _is_valid(corpus: Corpus, folder: Path, recipe: dict[str, object], reporter: Reporter) -> bool:
    try:
        manifest = Manifest.read(folder)
        if manifest.corpus != corpus.name:
            raise DataError(
                f"{folder} holds corpus {manifest.corpus!r}; "
                f"choose another --dataset for {corpus.name!r}, or use --force"
            )
        if manifest.recipe != recipe:
            reporter.note(f"{folder.name}: corpus or settings have changed since it was prepared; preparing it again")
            return False
        check_files(folder, manifest)
    except NoDataset:
        return False
    except CorruptDataset as error:
        reporter.note(f"{error}: preparing it again")
        return False
    return True


def _build(
    corpus: Corpus, folder: Path, recipe: dict[str, object], reporter: Reporter, like: Dataset | None, name: str
) -> None:
    shards = corpus.materialise(folder / CORPUS_FOLDER, reporter)
    tokenizer = like.tokenizer if like else _train_tokenizer(shards, reporter)
    (folder / TOKENIZER_FOLDER).mkdir()
    tokenizer.save(folder / TOKENIZER_FOLDER)
    (folder / TOKENS_FOLDER).mkdir()
    summaries: dict[str, SplitSummary] = {}
    parts = {"train": shards.train, "val": shards.validation}
    if like is not None:
        held_out = {*_documents(like, "val")}
        parts = {"train": [*shards.train, *shards.validation]}
        summaries["val"] = like.manifest.splits["val"]
        for path in (like.folder / TOKENS_FOLDER).glob("val.*"):
            shutil.copyfile(path, folder / TOKENS_FOLDER / path.name)
    for split, paths in parts.items():
        with reporter.stage(f"tokenising {split}", count_rows(paths, shards.column)) as stage:
            nulls: list[int] = []
            texts = read_texts(paths, shards.column, on_null=nulls.append)
            if like is not None:
                texts = (text for text in texts if text not in held_out)
            summaries[split] = write_tokens(folder / TOKENS_FOLDER, split, texts, tokenizer, stage.advance)
        note_nulls(sum(nulls), f"{corpus.name}, {split}", reporter)
        if not summaries[split].documents:
            raise DataError(f"corpus {corpus.name} has no documents in its {split} split")
    files: dict[str, FileEntry] = {}
    for path in sorted(path for part in (TOKENIZER_FOLDER, TOKENS_FOLDER) for path in (folder / part).iterdir()):
        relative = path.relative_to(folder).as_posix()
        files[relative] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    manifest = Manifest(name, corpus.name, recipe, summaries, tokenizer.vocab_size, tokenizer.sha256, files)
    with replacing_file(folder / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(manifest.to_json(), indent=2) + "\n", encoding="utf-8")


def _documents(dataset: Dataset, split: str) -> Iterator[str]:
    """The texts of a split, as its tokens spell them."""
    tokens = dataset.split(split)
    return (dataset.tokenizer.decode(tokens.document(index).tolist()) for index in range(len(tokens)))


def _train_tokenizer(shards: Shards, reporter: Reporter) -> Tokenizer:
    """The tokenizer sees training documents only: merges learnt from held-out text would flatter the validation."""
    with reporter.stage("training the tokenizer", count_rows(shards.train, shards.column)) as stage:
        tokenizer = Tokenizer.train(read_texts(shards.train, shards.column, stage.advance))
    if tokenizer.vocab_size < VOCAB_SIZE:
        reporter.note(f"small corpus: the vocabulary has {tokenizer.vocab_size:,} tokens instead of {VOCAB_SIZE:,}")
    return tokenizer
