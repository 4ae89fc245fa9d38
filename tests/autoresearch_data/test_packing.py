"""Best-fit packing: the documented rule, restated naively, and the properties that training relies on."""

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_data.errors import DataError
from autoresearch_data.packing import BestFitLoader, packing_loss
from autoresearch_data.tokens import Tokens

BOS = 9_999

# A document's ids are document number * 50 + position, so that every token of a row can be traced to its origin.
lengths_strategy = st.lists(st.integers(0, 40), min_size=1, max_size=30)
geometry = {
    "lengths": lengths_strategy,
    "length": st.integers(1, 24),
    "batch": st.integers(1, 3),
    "buffer": st.integers(1, 12),
}


def make(lengths):
    return Tokens.from_documents([range(number * 50, number * 50 + size) for number, size in enumerate(lengths)])


def rows_of(loader, batches):
    """int (batches * batch, T + 1): the packed rows before they are cut into inputs and targets."""
    packed = [next(loader) for _ in range(batches)]
    return np.concatenate([np.concatenate([inputs, targets[:, -1:]], axis=1) for inputs, targets, _ in packed])


def naive_rows(lengths, row_count, capacity, buffer_documents):
    """The rule of the specification, word for word, by linear search."""
    documents = make(lengths)
    buffer, following, rows = [], 0, []
    for _ in range(row_count):
        row = []
        while len(row) < capacity:
            while len(buffer) < buffer_documents:
                buffer.append([BOS, *documents.document(following % len(lengths)).tolist()])
                following += 1
            room = capacity - len(row)
            best = None
            for index, document in enumerate(buffer):
                if len(document) <= room and (best is None or len(document) > len(buffer[best])):
                    best = index
            if best is None:
                best = min(range(len(buffer)), key=lambda index: len(buffer[index]))
            row.extend(buffer.pop(best)[:room])
        rows.append(row)
    return np.array(rows)


@settings(max_examples=60, deadline=None)
@given(**geometry)
def test_rows_are_those_of_the_naive_rule(lengths, length, batch, buffer):
    loader = BestFitLoader(make(lengths), batch, length, BOS, buffer)
    np.testing.assert_array_equal(rows_of(loader, 4), naive_rows(lengths, 4 * batch, length + 1, buffer))


@settings(max_examples=60, deadline=None)
@given(**geometry)
def test_every_row_starts_with_bos_and_only_the_crop_loses_tokens(lengths, length, batch, buffer):
    loader = BestFitLoader(make(lengths), batch, length, BOS, buffer)
    rows = rows_of(loader, 5)
    assert (rows[:, 0] == BOS).all()
    for row in rows:
        starts = [*np.flatnonzero(row == BOS), row.size]
        for start, end in zip(starts[:-1], starts[1:], strict=True):
            piece = row[start + 1 : end]
            if piece.size:
                number = int(piece[0]) // 50
                # Every position holds a token: the document's own ids from its beginning, without a gap.
                np.testing.assert_array_equal(piece, number * 50 + np.arange(piece.size))
                assert piece.size == lengths[number] or end == row.size, "a document was cut although the row went on"
    # Nothing is lost but the counted crops: what was read is placed, cropped, or still waiting in the buffer.
    state = loader.state()
    sizes = [lengths[age % len(lengths)] + 1 for age in range(state["next"])]
    waiting = sum(sizes[age] for age in state["buffer"])
    assert loader.tokens_placed == rows.size
    assert sum(sizes) == loader.tokens_placed + loader.tokens_cropped + waiting


@settings(max_examples=40, deadline=None)
@given(**geometry, before=st.integers(0, 4))
def test_state_round_trip_is_exact(lengths, length, batch, buffer, before):
    tokens = make(lengths)
    loader = BestFitLoader(tokens, batch, length, BOS, buffer)
    for _ in range(before):
        next(loader)
    state = json.loads(json.dumps(loader.state()))
    restored = BestFitLoader(tokens, batch, length, BOS, buffer, state=state)
    for _ in range(3):
        for left, right in zip(next(loader), next(restored), strict=True):
            np.testing.assert_array_equal(left, right)
    assert loader.state() == restored.state()


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 8), min_size=3, max_size=30), world=st.integers(1, 3))
def test_ranks_share_the_documents(lengths, world):
    seen = []
    for rank in range(world):
        loader = BestFitLoader(make(lengths), 1, 8, BOS, 1, rank=rank, world=world)
        while loader.epoch == 1 and len(seen) < 10_000:
            row = rows_of(loader, 1)
            seen.extend((int(value) // 50, rank) for value in row[row != BOS])
    assert all(document % world == rank for document, rank in seen)


def test_targets_are_inputs_one_later_and_types_are_as_promised():
    inputs, targets, epoch = next(BestFitLoader(make([5, 30, 2, 7]), 2, 16, BOS, 3))
    assert inputs.dtype == targets.dtype == np.int32 and inputs.shape == targets.shape == (2, 16)
    assert inputs.flags.c_contiguous and targets.flags.c_contiguous and epoch >= 1
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])


def test_epochs_wrap():
    loader = BestFitLoader(make([7, 7]), 1, 15, BOS, 1)
    assert [next(loader)[2] for _ in range(3)] == [1, 2, 3]


def test_nothing_is_cropped_when_documents_fill_rows_exactly():
    tokens = make([15, 7, 7, 15])
    loader = BestFitLoader(tokens, 1, 15, BOS, 4)
    rows_of(loader, 12)
    assert loader.tokens_cropped == 0 and packing_loss(tokens, 15, BOS) == 0.0


def test_bad_arguments_and_states_are_refused():
    tokens = make([3, 4, 5])
    with pytest.raises(DataError, match="nothing to pack"):
        BestFitLoader(make([]), 1, 4, BOS)
    with pytest.raises(DataError, match="at least 1"):
        BestFitLoader(tokens, 0, 4, BOS)
    state = BestFitLoader(tokens, 1, 4, BOS, 2).state()
    with pytest.raises(DataError, match="sequence_len 4, this loader has 8"):
        BestFitLoader(tokens, 1, 8, BOS, 2, state=state)
    for damage in ({"buffer": [5]}, {"next": "x"}, {"identity": None}, {"buffer": None}):
        with pytest.raises(DataError):
            BestFitLoader(tokens, 1, 4, BOS, 2, state={**state, **damage})


def test_packing_is_faster_than_any_trainer_here():
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 400, 4_000)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = Tokens(rng.integers(0, 8192, int(offsets[-1])).astype(np.uint16), offsets)
    loader = BestFitLoader(tokens, 8, 256, BOS)
    next(loader)
    started = time.perf_counter()
    for _ in range(200):
        next(loader)
    # Measured 40 million tokens a second; the bound leaves room for a loaded machine.
    assert 200 * 8 * 256 / (time.perf_counter() - started) > 2e6
