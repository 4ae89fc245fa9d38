"""Token cache of one split: every document's ids in one flat uint16 file, memory-mapped.

<split>.bin            uint16 little-endian, the documents' ids one after the other, without BOS
<split>.offsets.npy    int64 (documents + 1,): document i is ids[offsets[i]:offsets[i + 1]]
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from autoresearch_common.files import replacing_file
from autoresearch_data.errors import CorruptDataset, DataError
from autoresearch_data.tokenizer import Tokenizer

Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
TOKEN_DTYPE = np.dtype("<u2")
_BATCH_DOCUMENTS = 128


@dataclass(frozen=True)
class Tokens:
    """One split.  ids: uint16 (tokens,).  offsets: int64 (documents + 1,).  len() is the number of documents."""

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return self.offsets.size - 1

    def document(self, index: int) -> np.ndarray:
        """Ids of one document, uint16, a view. Raises IndexError beyond the last document."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def from_documents(cls, documents: Iterable[Iterable[int]]) -> Tokens:
        """Build a split in memory from lists of ids."""
        arrays = [np.asarray(list(document), dtype=TOKEN_DTYPE) for document in documents]
        offsets = np.cumsum([0, *(array.size for array in arrays)], dtype=np.int64)
        return cls(np.concatenate([np.empty(0, TOKEN_DTYPE), *arrays]), offsets)

    @classmethod
    def open(cls, folder: Path, split: str) -> Tokens:
        """Map the two files of `split`. Raises CorruptDataset where they are missing or contradict each other."""
        ids_path, offsets_path = folder / f"{split}.bin", folder / f"{split}.offsets.npy"
        try:
            # .view: np.memmap re-wraps every slice, which costs the packing loop more than the copy itself.
            mapped = ids_path.stat().st_size > 0
            ids = np.memmap(ids_path, TOKEN_DTYPE, "r").view(np.ndarray) if mapped else np.empty(0, TOKEN_DTYPE)
            offsets = np.load(offsets_path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except Exception as error:  # NumPy reads a header as Python, and what is none is an error of any class
            raise CorruptDataset(f"tokens in {folder} cannot be read: {error}") from error
        if offsets.dtype != np.int64 or offsets.ndim != 1 or not offsets.size or offsets[0] != 0:
            raise CorruptDataset(f"{offsets_path} holds no document offsets")
        if offsets[-1] != ids.size:
            raise CorruptDataset(f"{ids_path} holds {ids.size} tokens, its offsets say {offsets[-1]}")
        return cls(ids, offsets)


@dataclass(frozen=True)
class SplitSummary:
    """What a split holds. sha256 covers the documents' text, in order; tokens do not include BOS."""

    documents: Count
    characters: Count
    bytes: Count
    tokens: Count
    sha256: str


@dataclass(frozen=True)
class _Encoded:
    ids: np.ndarray
    lengths: list[int]
    texts: list[bytes]
    characters: int


def write_tokens(
    folder: Path,
    split: str,
    documents: Iterable[str],
    tokenizer: Tokenizer,
    advance: Callable[[int], None] = lambda count: None,
    threads: int | None = None,
) -> SplitSummary:
    """Tokenise `documents` into the two files of `split`; both appear complete or not at all.

    `advance` is called with the number of documents done since the last call. Memory use does not grow with the corpus,
    but for eight bytes per document.
    """
    if tokenizer.vocab_size > np.iinfo(TOKEN_DTYPE).max + 1:
        raise DataError(f"a vocabulary of {tokenizer.vocab_size} does not fit uint16")
    digest = hashlib.sha256()
    lengths: list[int] = []
    characters = size = 0
    ids_path, offsets_path = folder / f"{split}.bin", folder / f"{split}.offsets.npy"
    with replacing_file(ids_path) as new_ids, replacing_file(offsets_path) as new_offsets:
        with open(new_ids, "wb") as stream:
            for encoded in _encode(documents, tokenizer, threads or os.cpu_count() or 1):
                encoded.ids.tofile(stream)
                lengths.extend(encoded.lengths)
                for text in encoded.texts:
                    # The length makes the boundary between two documents part of the hash.
                    digest.update(len(text).to_bytes(8, "little"))
                    digest.update(text)
                    size += len(text)
                characters += encoded.characters
                advance(len(encoded.lengths))
        ends = np.cumsum([0, *lengths], dtype=np.int64)
        with open(new_offsets, "wb") as stream:
            np.save(stream, ends, allow_pickle=False)
    return SplitSummary(len(lengths), characters, size, int(ends[-1]), digest.hexdigest())


def _encode(documents: Iterable[str], tokenizer: Tokenizer, threads: int) -> Iterator[_Encoded]:
    """Encode batches on `threads` threads (tiktoken releases the interpreter lock) and yield them in order."""

    def encode(batch: list[str]) -> _Encoded:
        arrays = [np.array(tokenizer.encode(text), dtype=TOKEN_DTYPE) for text in batch]
        texts = [text.encode("utf-8") for text in batch]
        return _Encoded(np.concatenate(arrays), [array.size for array in arrays], texts, sum(map(len, batch)))

    source = iter(documents)
    waiting: deque[Future[_Encoded]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while batch := list(islice(source, _BATCH_DOCUMENTS)):
                waiting.append(pool.submit(encode, batch))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # On an error or Ctrl-C the pool must not go on with what nobody waits for.
            pool.shutdown(wait=True, cancel_futures=True)
