"""Best-fit packing: whole documents into rows without padding.

Every document is preceded by the BOS token. A row takes the largest buffered document that still fits, again and again;
when none fits, the shortest one is cropped to fill the row and its rest is dropped. Documents are not masked from each
other: attention crosses them. (This is the loader of karpathy/autoresearch.)

Ties are broken by age: of equally long documents the one that entered the buffer first is taken, so the stream is a
function of the tokens and the arguments alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

import numpy as np
from typing_extensions import TypedDict

from autoresearch_data.errors import DataError
from autoresearch_data.tokens import Tokens

# A buffer entry is one integer, length * 2**44 + sequence number: integers keep a sorted list fast, and equal lengths
# sort by age. 2**44 documents are more than any corpus has over any number of epochs.
_AGE_BITS = 44
_AGE_MASK = (1 << _AGE_BITS) - 1


class LoaderState(TypedDict):
    """Position of a loader, as JSON. identity: what decides its stream; buffer: the documents that wait in it."""

    identity: dict[str, int]
    next: int
    buffer: list[int]
    tokens_placed: int
    tokens_cropped: int


class BestFitLoader(Iterator[tuple[np.ndarray, np.ndarray, int]]):
    """Endless iterator of ``(inputs, targets, epoch)``.

    inputs, targets: int32 (batch_size, sequence_len), fresh arrays; targets are the inputs one position later.
    epoch: 1 while the first pass over the documents is being read, then 2, ...

    tokens: one split of a dataset.
    state: what `state()` of an equal loader returned; iteration continues exactly there.
    rank, world: where several loaders share a split, this one reads documents rank, rank + world, ...

    Raises DataError where the split is empty or the state belongs to another split or geometry.
    """

    def __init__(
        self,
        tokens: Tokens,
        batch_size: int,
        sequence_len: int,
        bos_id: int,
        buffer_documents: int = 1000,
        state: LoaderState | None = None,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1 or sequence_len < 1 or buffer_documents < 1 or not 0 <= rank < world:
            raise DataError("batch size, sequence length and buffer must be at least 1, and rank below world")
        documents = len(tokens)
        if documents <= rank:
            raise DataError(f"the split has {documents} documents: nothing to pack")
        self._ids = tokens.ids
        self._offsets = tokens.offsets
        self._batch_size = batch_size
        self._sequence_len = sequence_len
        self._bos_id = bos_id
        self._buffer_documents = buffer_documents
        self._rank, self._world = rank, world
        self._documents = len(range(rank, documents, world))
        # Everything that decides the stream; a state is only good for a loader that has all of it in common.
        self._identity = {
            "documents": documents,
            "tokens": int(tokens.ids.size),
            "batch_size": batch_size,
            "sequence_len": sequence_len,
            "bos_id": bos_id,
            "buffer_documents": buffer_documents,
            "rank": rank,
            "world": world,
        }
        self._next = 0
        self._entries: list[int] = []
        self.tokens_cropped = 0
        self.tokens_placed = 0
        if state is not None:
            self._restore(state)

    def __next__(self) -> tuple[np.ndarray, np.ndarray, int]:
        rows = np.empty((self._batch_size, self._sequence_len + 1), dtype=np.int32)
        for row in rows:
            self._fill(row)
        return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:]), self.epoch

    @property
    def epoch(self) -> int:
        """The pass over the documents that the newest buffered document belongs to; 1 before anything is read."""
        return max(self._next - 1, 0) // self._documents + 1

    def state(self) -> LoaderState:
        """Position as a JSON value of a few kilobytes: the next document and those waiting in the buffer."""
        return {
            "identity": dict(self._identity),
            "next": self._next,
            "buffer": sorted(entry & _AGE_MASK for entry in self._entries),
            "tokens_placed": self.tokens_placed,
            "tokens_cropped": self.tokens_cropped,
        }

    def _restore(self, state: LoaderState) -> None:
        try:
            identity, following = dict(state["identity"]), int(state["next"])
            waiting = [int(age) for age in state["buffer"]]
            placed, cropped = int(state["tokens_placed"]), int(state["tokens_cropped"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a loader state: {error!r}") from error
        for key, value in self._identity.items():
            if identity.get(key) != value:
                raise DataError(f"loader state was saved with {key} {identity.get(key)}, this loader has {value}")
        if following < 0 or any(not 0 <= age < following for age in waiting) or len(set(waiting)) != len(waiting):
            raise DataError("not a loader state: its buffer names documents that were not read yet, or one twice")
        self._next = following
        self._entries = sorted(self._entry(age) for age in waiting)
        self.tokens_placed, self.tokens_cropped = placed, cropped

    def _document(self, age: int) -> int:
        return self._rank + (age % self._documents) * self._world

    def _entry(self, age: int) -> int:
        document = self._document(age)
        length = int(self._offsets[document + 1]) - int(self._offsets[document]) + 1  # + 1: the BOS token
        return length << _AGE_BITS | age

    def _take(self, room: int) -> int:
        """Remove and return the entry to place next: the largest that fits into `room`, else the shortest."""
        entries = self._entries
        fitting = bisect_left(entries, (room + 1) << _AGE_BITS)
        # Of the entries as long as the largest fitting one, the oldest comes first. Entry 0 is the shortest and oldest.
        place = bisect_left(entries, entries[fitting - 1] >> _AGE_BITS << _AGE_BITS) if fitting else 0
        return entries.pop(place)

    def _fill(self, row: np.ndarray) -> None:
        """Fill one row, int32 (sequence_len + 1,)."""
        ids, capacity, position = self._ids, row.size, 0
        while position < capacity:
            while len(self._entries) < self._buffer_documents:
                insort(self._entries, self._entry(self._next))
                self._next += 1
            entry = self._take(capacity - position)
            length = entry >> _AGE_BITS
            placed = min(length, capacity - position)
            start = int(self._offsets[self._document(entry & _AGE_MASK)])
            row[position] = self._bos_id
            row[position + 1 : position + placed] = ids[start : start + placed - 1]
            position += placed
            self.tokens_placed += placed
            self.tokens_cropped += length - placed


def packing_loss(tokens: Tokens, sequence_len: int, bos_id: int, limit: int = 2_000_000) -> float:
    """Fraction of the tokens read that packing crops away, over rows holding at most about `limit` tokens."""
    loader = BestFitLoader(tokens, 1, sequence_len, bos_id)
    goal = min(limit, int(tokens.ids.size) + len(tokens))
    while loader.tokens_placed + loader.tokens_cropped < goal:
        next(loader)
    return loader.tokens_cropped / (loader.tokens_placed + loader.tokens_cropped)
