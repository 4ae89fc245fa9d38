"""The corpora that can be downloaded, as data: which files of which repository on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a corpus lies on the hub.

    train, validation: file names below the repository. Names with a number are written out by `numbered`; where a
    repository's names cannot be known beforehand (they contain hashes), `train_prefix` and `validation_prefix` select
    them from its listing. A corpus without validation files gets one: 5 % of its documents, by content hash.
    minimum: (column, value); rows below it are left out.  default_shards: training files taken unless told otherwise.
    """

    name: str
    summary: str
    repository: str
    default_shards: int
    revision: str = "main"
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    train_prefix: str = ""
    validation_prefix: str = ""
    column: str = "text"
    minimum: tuple[str, float] | None = None


def numbered(pattern: str, count: int) -> tuple[str, ...]:
    return tuple(pattern.format(index) for index in range(count))


SOURCES = (
    Source(
        "climbmix",
        "400B tokens of web text, shuffled; the corpus of karpathy/autoresearch (0.1 GB a shard)",
        "karpathy/climbmix-400b-shuffle",
        default_shards=10,
        train=numbered("shard_{:05d}.parquet", 6542),
        validation=("shard_06542.parquet",),  # pinned upstream, so that results can be compared
    ),
    Source(
        "fineweb-edu",
        "educational web pages, the 10B-token sample (2.2 GB a file)",
        "HuggingFaceFW/fineweb-edu",
        default_shards=1,
        train=numbered("sample/10BT/{:03d}_00000.parquet", 14),
    ),
    Source(
        "fineweb-edu-high",
        "those of fineweb-edu that its classifier scores 4 or 5 (the others score 3)",
        "HuggingFaceFW/fineweb-edu",
        default_shards=2,
        train=numbered("sample/10BT/{:03d}_00000.parquet", 14),
        minimum=("int_score", 4),
    ),
    Source(
        "cosmopedia-v2",
        "synthetic textbooks and stories (1.2 GB a file)",
        "HuggingFaceTB/smollm-corpus",
        default_shards=1,
        train=numbered("cosmopedia-v2/train-{:05d}-of-00104.parquet", 104),
    ),
    Source(
        "slimpajama",
        "a 6B-token sample of web, books, papers and code (0.3 GB a file)",
        "DKYoon/SlimPajama-6B",
        default_shards=4,
        train_prefix="data/train-",
        validation_prefix="data/validation-",
    ),
    Source(
        # The hub's own python-edu lists file identifiers only; this repository holds the texts they stand for.
        "python-edu",
        "educational Python files, with their text",
        "Avelina/python-edu-cleaned",
        default_shards=1,
        train_prefix="data/train-",
    ),
    Source(
        "tinystories",
        "synthetic short stories in simple words (0.25 GB a file)",
        "roneneldan/TinyStories",
        default_shards=4,
        train_prefix="data/train-",
        validation_prefix="data/validation-",
    ),
)
