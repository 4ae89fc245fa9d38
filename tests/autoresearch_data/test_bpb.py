"""Bits per byte against cases worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch_data.bpb import accumulate, bits_per_byte

# Vocabulary: "a" (1 byte), "the" (3 bytes), "é" (2 bytes), BOS (0 bytes).
LENGTHS = np.array([1, 3, 2, 0], dtype=np.int32)


def test_hand_computed_case():
    # "a" at 1 bit, "the" at 4 bits, BOS at 10 bits (not counted), "é" at 1 bit: 6 bits over 6 bytes.
    nats = np.log(2.0) * np.array([1.0, 4.0, 10.0, 1.0])
    total, size = accumulate(nats, np.array([0, 1, 3, 2]), LENGTHS)
    assert size == 6 and total == pytest.approx(6 * math.log(2.0))
    assert bits_per_byte(total, size) == pytest.approx(1.0)


def test_uniform_guess_over_bytes_costs_eight_bits():
    total, size = accumulate(np.full(100, math.log(256.0)), np.zeros(100, dtype=np.int64), LENGTHS)
    assert bits_per_byte(total, size) == pytest.approx(8.0)


def test_ignored_targets_count_on_neither_side():
    assert accumulate(np.array([5.0, 7.0]), np.array([-1, 3]), LENGTHS) == (0.0, 0)
    with pytest.raises(ValueError, match="no bytes"):
        bits_per_byte(0.0, 0)


def test_bad_shapes_and_ids_are_refused():
    with pytest.raises(ValueError, match="2 losses for 1 targets"):
        accumulate(np.zeros(2), np.zeros(1, dtype=int), LENGTHS)
    with pytest.raises(ValueError, match="beyond the vocabulary"):
        accumulate(np.zeros(1), np.array([4]), LENGTHS)


def test_sums_are_float64_even_for_float32_losses():
    nats = np.full(1_000_000, 0.1, dtype=np.float32)
    total, _ = accumulate(nats, np.zeros(nats.size, dtype=np.int32), LENGTHS)
    assert total == pytest.approx(1_000_000 * float(np.float32(0.1)), rel=1e-12)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(-1, 3)), max_size=40), st.integers(0, 40))
def test_accumulating_in_parts_gives_the_whole(pairs, cut):
    nats, targets = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs], dtype=np.int64)
    whole = accumulate(nats, targets, LENGTHS)
    first, second = accumulate(nats[:cut], targets[:cut], LENGTHS), accumulate(nats[cut:], targets[cut:], LENGTHS)
    assert whole[1] == first[1] + second[1] == sum(int(LENGTHS[t]) for t in targets if t >= 0)
    assert whole[0] == pytest.approx(first[0] + second[0])
