"""The tokenizer: exact round trips, storage as text, byte lengths."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch_data.errors import CorruptDataset, DataError
from autoresearch_data.tokenizer import SPECIAL_TOKENS, Tokenizer

CORPUS = ["def add(a, b):\n    return a + b\n", "the quick brown fox, 12345 naïve café résumés — 日本語\n"] * 20
TOKENIZER = Tokenizer.train(CORPUS, vocab_size=320)


@given(st.text())
def test_round_trip_is_exact_and_bytes_are_those_of_the_decoded_tokens(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    alone = [TOKENIZER.decode([token]) for token in ids]
    assert [int(TOKENIZER.token_bytes[token]) for token in ids] == [len(t.encode("utf-8")) for t in alone]
    if "\ufffd" not in "".join(alone):  # no token is a part of a character: the lengths add up to the text's
        assert sum(int(TOKENIZER.token_bytes[token]) for token in ids) == len(text.encode("utf-8"))


def test_a_byte_that_is_part_of_a_character_counts_as_the_replacement_character():
    [*_, last] = TOKENIZER.encode("\U0001f600")
    assert TOKENIZER.decode([last]) == "\ufffd"
    assert TOKENIZER.token_bytes[last] == 3


def test_vocabulary_and_special_tokens():
    assert TOKENIZER.vocab_size == 320 and TOKENIZER.bos_id == 316
    assert TOKENIZER.token_bytes.dtype == np.int32 and TOKENIZER.token_bytes.shape == (320,)
    assert (TOKENIZER.token_bytes[-4:] == 0).all() and (TOKENIZER.token_bytes[:-4] > 0).all()
    assert TOKENIZER.decode([TOKENIZER.bos_id]) == SPECIAL_TOKENS[0]


def test_special_tokens_in_text_are_ordinary_text():
    ids = TOKENIZER.encode(f"a {SPECIAL_TOKENS[0]} b")
    assert max(ids) < TOKENIZER.bos_id and TOKENIZER.decode(ids) == f"a {SPECIAL_TOKENS[0]} b"


def test_numbers_are_cut_after_two_digits():
    assert all(len(TOKENIZER.decode([token])) <= 2 for token in TOKENIZER.encode("123456789"))


def test_training_is_deterministic_and_storage_is_exact(tmp_path):
    TOKENIZER.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.sha256 == TOKENIZER.sha256 == Tokenizer.train(iter(CORPUS), vocab_size=320).sha256
    assert loaded.encode(CORPUS[1]) == TOKENIZER.encode(CORPUS[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokens.tiktoken"]
    assert (tmp_path / "tokens.tiktoken").read_text().splitlines()[0] == "AA== 0"


def test_only_the_first_ten_thousand_characters_of_a_document_count():
    tail = "zq" * 500
    assert Tokenizer.train(["ab " * 3_334 + tail], 260 + 4).sha256 == Tokenizer.train(["ab " * 3_334], 264).sha256


def test_a_small_corpus_gives_a_smaller_vocabulary():
    assert 260 < Tokenizer.train(["aaaa bbbb"], 8192).vocab_size < 300
    with pytest.raises(DataError, match="no room"):
        Tokenizer.train(["a"], 100)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokens.tiktoken", "AA== 0\nAA=="),
        ("tokens.tiktoken", "AA== 7\n"),
        ("tokens.tiktoken", "!!! 0\n"),
        ("tokenizer.json", "{"),
        ("tokenizer.json", json.dumps({"pattern": "x"})),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content):
    TOKENIZER.save(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(CorruptDataset, match="tokenizer"):
        Tokenizer.load(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CorruptDataset, match="cannot be read"):
        Tokenizer.load(tmp_path)
