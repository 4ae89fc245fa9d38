"""Parquet shards with one column, `text`: the form every corpus takes before it is tokenised."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from autoresearch_data.errors import CorruptDataset, DataError

TEXT_COLUMN = "text"
ROW_GROUP_DOCUMENTS = 1024
VALIDATION_PERMILLE = 50
_SCHEMA = pa.schema([(TEXT_COLUMN, pa.string())])
_BUCKET_SCHEMA = pa.schema([("hash", pa.binary(32)), ("validation", pa.bool_()), (TEXT_COLUMN, pa.string())])


@dataclass(frozen=True)
class Unit:
    """Documents that must stay on one side of the split, such as the pieces of a file. key: SHA-256 that decides it."""

    key: bytes
    documents: list[str]


@dataclass(frozen=True)
class Shards:
    """Parquet files of a corpus, in reading order, and the column that holds the text."""

    train: list[Path]
    validation: list[Path]
    column: str = TEXT_COLUMN


def shard_name(index: int) -> str:
    return f"shard_{index:05d}.parquet"


def is_validation(key: bytes) -> bool:
    """Whether a unit is held out: about 5 % are, by the first four bytes of their SHA-256."""
    return int.from_bytes(key[:4], "big") * 1000 < VALIDATION_PERMILLE << 32


def write_shuffled(units: Iterable[Unit], folder: Path, train_shards: int) -> Shards:
    """Write `units` as shuffled shards into `folder`: `train_shards` for training, and the last one for validation.

    The order is that of the documents' SHA-256, over the whole corpus: a shuffle that any machine repeats. A document
    that occurs more than once is kept once, on the validation side if it occurs there, so that nothing held out is
    trained on. Units first go to one bucket file per range of hashes, then each bucket is sorted by itself:
    memory holds one bucket, never the corpus.

    Raises DataError where one side would be empty.
    """
    buckets = [folder / f"bucket_{index:05d}.parquet" for index in range(train_shards)]
    _write_buckets(units, buckets)
    train = [folder / shard_name(index) for index in range(train_shards)]
    validation = folder / shard_name(train_shards)
    counts = [0, 0]
    with pq.ParquetWriter(validation, _SCHEMA) as held_out:
        for bucket, shard in zip(buckets, train, strict=True):
            sides = _sorted_bucket(bucket)
            bucket.unlink()
            with pq.ParquetWriter(shard, _SCHEMA) as writer:
                _write_texts(writer, sides[0])
            _write_texts(held_out, sides[1])
            counts = [counts[0] + len(sides[0]), counts[1] + len(sides[1])]
    if not all(counts):
        raise DataError(
            f"the corpus is too small to hold some of it out: {counts[0]} documents for training, "
            f"{counts[1]} for validation; both sides need at least one"
        )
    return Shards(train, [validation])


def _write_buckets(units: Iterable[Unit], buckets: list[Path]) -> None:
    rows: list[list[tuple[bytes, bool, str]]] = [[] for _ in buckets]
    with ExitStack() as stack:
        writers = [stack.enter_context(pq.ParquetWriter(path, _BUCKET_SCHEMA)) for path in buckets]

        def flush(index: int) -> None:
            if rows[index]:
                columns = [list(column) for column in zip(*rows[index], strict=True)]
                writers[index].write_table(pa.table(columns, schema=_BUCKET_SCHEMA))
                rows[index].clear()

        for unit in units:
            held_out = is_validation(unit.key)
            for text in unit.documents:
                digest = hashlib.sha256(text.encode("utf-8")).digest()
                index = int.from_bytes(digest[:4], "big") * len(buckets) >> 32
                rows[index].append((digest, held_out, text))
                if len(rows[index]) >= 4 * ROW_GROUP_DOCUMENTS:
                    flush(index)
        for index in range(len(buckets)):
            flush(index)


def _sorted_bucket(path: Path) -> tuple[list[str], list[str]]:
    """(training texts, validation texts) of one bucket, ordered by hash and without repetitions."""
    columns = pq.read_table(path).to_pydict()
    rows = list(zip(columns["hash"], columns["validation"], columns[TEXT_COLUMN], strict=True))
    rows.sort(key=lambda row: row[0])
    held_out = {digest for digest, validation, _ in rows if validation}
    train: list[str] = []
    validation: list[str] = []
    last = None
    for digest, _, text in rows:
        if digest != last:
            (validation if digest in held_out else train).append(text)
            last = digest
    return train, validation


def _write_texts(writer: pq.ParquetWriter, texts: list[str]) -> None:
    for start in range(0, len(texts), ROW_GROUP_DOCUMENTS):
        writer.write_table(pa.table([texts[start : start + ROW_GROUP_DOCUMENTS]], schema=_SCHEMA))


def read_texts(
    paths: Iterable[Path],
    column: str = TEXT_COLUMN,
    advance: Callable[[int], None] = lambda count: None,
    minimum: tuple[str, float] | None = None,
    on_null: Callable[[int], None] = lambda count: None,
) -> Iterator[str]:
    """Yield the documents of parquet files in order; empty texts are left out, and nulls, which are counted.

    minimum: (column, value); rows where that column is null or below the value are left out.
    `advance` is called with the number of rows read, `on_null` with that of null texts among them. Raises DataError
    where a file is no parquet file or has no column of strings with that name, CorruptDataset where its data cannot be
    decoded.
    """
    for path in paths:
        with open_parquet(path, column) as file:
            if minimum and minimum[0] not in file.schema_arrow.names:
                raise DataError(f"{path} has no column {minimum[0]!r}")
            for group in range(file.num_row_groups):
                try:
                    table = file.read_row_group(group, columns=[column, minimum[0]] if minimum else [column])
                    advance(table.num_rows)
                    if minimum:
                        table = table.filter(pc.field(minimum[0]) >= minimum[1])
                    texts = table.column(column).to_pylist()
                except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                    raise CorruptDataset(f"{path} is damaged: {_first_line(error)}") from error
                on_null(texts.count(None))
                yield from (text for text in texts if text)


def count_rows(paths: Iterable[Path], column: str = TEXT_COLUMN) -> int:
    """Rows of parquet files by their footers. Raises as `read_texts` does."""
    total = 0
    for path in paths:
        with open_parquet(path, column) as file:
            total += file.metadata.num_rows
    return total


def open_parquet(path: Path, column: str = TEXT_COLUMN) -> pq.ParquetFile:
    """Open a parquet file that has a string column `column`; raises DataError otherwise."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable parquet file: {_first_line(error)}") from error
    names = file.schema_arrow.names
    if column not in names:
        file.close()
        raise DataError(f"{path} has no column {column!r}; it has {', '.join(names) or 'none'}")
    if names.count(column) > 1:
        file.close()
        raise DataError(f"{path} has {names.count(column)} columns {column!r}: which one holds the text cannot be told")
    kind = file.schema_arrow.field(column).type
    if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        file.close()
        raise DataError(f"{path}: column {column!r} holds {kind}, not text")
    return file


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
