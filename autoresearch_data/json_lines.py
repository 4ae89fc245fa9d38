"""Corpora in JSON Lines, as they are or packed with gzip or Zstandard: one document a line, in the field `text`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from autoresearch_common.reading import MOST_BYTES, BadFile, parse_json
from autoresearch_data.errors import DataError, readable
from autoresearch_data.shards import TEXT_COLUMN

# How a file is packed, by the end of its name.
JSON_LINES = {".jsonl": None, ".jsonl.gz": "gzip", ".jsonl.zst": "zstd"}


def read_json_lines(path: Path, suffix: str, on_null: Callable[[int], None] = lambda count: None) -> Iterator[str]:
    """Yield the documents of a file with that suffix, in order; empty texts are left out, and nulls, which are counted.

    Raises DataError where the file cannot be read or unpacked, and for a line that holds no text.
    """
    with readable(path), io.BufferedReader(pa.input_stream(str(path), compression=JSON_LINES[suffix])) as stream:
        number = 0
        while line := stream.readline(MOST_BYTES + 1):
            number += 1
            if len(line) > MOST_BYTES:
                raise DataError(f"{path}:{number}: a line of more than {MOST_BYTES:,} bytes")
            if not line.strip():
                continue
            try:
                # Unchecked: what stands beside the text is not looked at.
                text = parse_json(line, f"{path}:{number}", checked=False)[TEXT_COLUMN]
            except BadFile as error:
                raise DataError(str(error)) from error
            except (KeyError, TypeError) as error:
                raise DataError(f"{path}:{number}: not a JSON object with a field {TEXT_COLUMN!r}") from error
            if text is None:
                on_null(1)
            elif not isinstance(text, str):
                raise DataError(f"{path}:{number}: field {TEXT_COLUMN!r} is not a string")
            # A lone surrogate is legal in JSON but is no text; it cannot be encoded.
            elif text := text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"):
                yield text
