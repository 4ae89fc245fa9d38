"""The token cache: threads keep the order, files are complete or absent, contradictions are seen."""

import numpy as np
import pytest

from autoresearch_data.errors import CorruptDataset
from autoresearch_data.tokenizer import Tokenizer
from autoresearch_data.tokens import Tokens, write_tokens

TEXTS = [f"document {number} é\n" * (number % 5 + 1) for number in range(1_000)]
TOKENIZER = Tokenizer.train(TEXTS, 300)


@pytest.mark.parametrize("threads", [1, 3])
def test_documents_come_back_in_order(tmp_path, threads):
    counts = []
    summary = write_tokens(tmp_path, "train", iter(TEXTS), TOKENIZER, counts.append, threads)
    tokens = Tokens.open(tmp_path, "train")
    assert [TOKENIZER.decode(tokens.document(index)) for index in range(len(tokens))] == TEXTS
    assert summary.documents == sum(counts) == 1_000 and summary.tokens == tokens.ids.size
    assert summary.characters == sum(map(len, TEXTS)) and summary.bytes == sum(len(t.encode()) for t in TEXTS)
    assert int(TOKENIZER.token_bytes[tokens.ids].sum()) == summary.bytes  # no token of these texts splits a character
    with pytest.raises(IndexError):
        tokens.document(1_000)


def test_summary_hash_sees_order_and_boundaries(tmp_path):
    hashes = {
        write_tokens(tmp_path, "train", texts, TOKENIZER).sha256
        for texts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"], ["ab", "c", ""])
    }
    assert len(hashes) == 5


def test_a_failing_source_leaves_no_file(tmp_path):
    def texts():
        yield from TEXTS
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        write_tokens(tmp_path, "train", texts(), TOKENIZER)
    assert not list(tmp_path.iterdir())


def test_contradicting_files_are_refused(tmp_path):
    write_tokens(tmp_path, "val", ["a b c"], TOKENIZER)
    np.save(tmp_path / "val.offsets.npy", np.array([0, 99]))
    with pytest.raises(CorruptDataset, match="offsets say 99"):
        Tokens.open(tmp_path, "val")
    np.save(tmp_path / "val.offsets.npy", np.array([0.5]))
    with pytest.raises(CorruptDataset, match="no document offsets"):
        Tokens.open(tmp_path, "val")
    with pytest.raises(CorruptDataset, match="cannot be read"):
        Tokens.open(tmp_path, "train")
