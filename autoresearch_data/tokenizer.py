"""Byte-pair tokenizer: trained with rustbpe, applied with tiktoken, stored as text.

Files in a tokenizer folder (no pickle: reading a file must not be able to run code):
    tokens.tiktoken    one line per token, `base64(bytes) rank`, the format of tiktoken's own vocabularies
    tokenizer.json     split pattern and special tokens, which follow the last rank
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import tiktoken

from autoresearch_common.files import replacing_file
from autoresearch_common.hashing import json_sha256
from autoresearch_common.reading import read_json, read_text
from autoresearch_data.errors import CorruptDataset, DataError

VOCAB_SIZE = 8192
SPECIAL_TOKENS = tuple(f"<|reserved_{index}|>" for index in range(4))
# GPT-4's split pattern, but at most two digits to a token: a small vocabulary has no room for a thousand numbers.
SPLIT_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
TRAINING_DOCUMENT_CHARACTERS = 10_000
TRAINING_CHARACTERS = 1_000_000_000

_RANKS_FILE = "tokens.tiktoken"
_SETTINGS_FILE = "tokenizer.json"


class Tokenizer:
    """Text to token ids and back. Immutable; safe to use from several threads.

    ranks: token bytes -> id, 0 .. len - 1.  special_tokens get the ids after them, in order; the first is BOS.
    """

    def __init__(
        self, ranks: dict[bytes, int], pattern: str = SPLIT_PATTERN, special_tokens: Sequence[str] = SPECIAL_TOKENS
    ) -> None:
        if sorted(ranks.values()) != list(range(len(ranks))) or not special_tokens:
            raise CorruptDataset("tokenizer: ranks must be 0, 1, 2, ... and there must be a special token")
        self.pattern = pattern
        self.special_tokens = tuple(special_tokens)
        self._ranks = ranks
        self._encoding = tiktoken.Encoding(
            name="autoresearch",
            pat_str=pattern,
            mergeable_ranks=ranks,
            special_tokens={token: len(ranks) + index for index, token in enumerate(special_tokens)},
        )

    @classmethod
    def train(cls, documents: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
        """Learn `vocab_size` tokens, the special ones included. Documents count with their first 10,000 characters,
        and at most 10**9 characters are read. A corpus with fewer distinct pairs gives a smaller vocabulary.

        Raises DataError where `vocab_size` leaves no room for the 256 bytes or the corpus holds no text.
        """
        merges = vocab_size - len(SPECIAL_TOKENS)
        if merges < 256:
            raise DataError(f"a vocabulary of {vocab_size} has no room for 256 bytes and the special tokens")
        import rustbpe  # only training needs it; a machine that gets a prepared dataset may not have it

        trainer = rustbpe.Tokenizer()
        trainer.train_from_iterator(_training_texts(documents), merges, pattern=SPLIT_PATTERN)
        return cls({bytes(token): rank for token, rank in trainer.get_mergeable_ranks()})

    def save(self, folder: Path) -> None:
        """Write the two files into `folder`, which must exist."""
        with replacing_file(folder / _RANKS_FILE) as temporary:
            ordered = sorted(self._ranks.items(), key=lambda item: item[1])
            lines = (f"{base64.b64encode(token).decode('ascii')} {rank}\n" for token, rank in ordered)
            temporary.write_text("".join(lines), encoding="ascii")
        with replacing_file(folder / _SETTINGS_FILE) as temporary:
            settings = {"pattern": self.pattern, "special_tokens": list(self.special_tokens)}
            temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read a tokenizer folder. Raises CorruptDataset where a file is missing or not what it should be."""
        folder = Path(folder)
        try:
            settings = read_json(folder / _SETTINGS_FILE)
            pattern, special_tokens = str(settings["pattern"]), [str(token) for token in settings["special_tokens"]]
            ranks = {}
            for line in read_text(folder / _RANKS_FILE).splitlines():
                token, rank = line.split(" ")
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            return cls(ranks, pattern, special_tokens)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptDataset(f"tokenizer in {folder} cannot be read: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. What looks like a special token is encoded as ordinary text; no BOS is added."""
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; bytes that are not UTF-8 (a character cut in two) become U+FFFD."""
        return self._encoding.decode([int(token) for token in ids])

    @property
    def vocab_size(self) -> int:
        return len(self._ranks) + len(self.special_tokens)

    @property
    def bos_id(self) -> int:
        return len(self._ranks)

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """int32 (vocab_size,): the UTF-8 length in bytes of each token decoded on its own, 0 for special tokens.

        This is the trainer family's definition, kept so that val_bpb can be compared with published figures. A token
        that is part of a longer character decodes to U+FFFD and counts three bytes, so that sums over a text with such
        tokens exceed its length (by 0.04 % on the standard library's sources).
        """
        lengths = np.zeros(self.vocab_size, dtype=np.int32)
        for rank in self._ranks.values():
            lengths[rank] = len(self.decode([rank]).encode("utf-8"))
        lengths.setflags(write=False)
        return lengths

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides an encoding."""
        ranks = [token.hex() for token, _ in sorted(self._ranks.items(), key=lambda item: item[1])]
        return json_sha256({"pattern": self.pattern, "special_tokens": list(self.special_tokens), "tokens": ranks})


def _training_texts(documents: Iterable[str]) -> Iterable[str]:
    characters = 0
    for document in documents:
        if characters >= TRAINING_CHARACTERS:
            return
        text = document[:TRAINING_DOCUMENT_CHARACTERS]
        characters += len(text)
        yield text
