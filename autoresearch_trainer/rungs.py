"""How much of the validation split an evaluation reads: three rungs.

`full` is the specification's: the first 20,971,520 tokens of the packed split, or one pass over a smaller one. The
cheaper rungs read rows at equal distances from those same tokens.
"""

from autoresearch_data.dataset import Dataset
from autoresearch_data.packing import BestFitLoader
from autoresearch_trainer.config import Preset
from autoresearch_trainer.errors import ConfigError

RUNGS = ("cheap", "reference", "full")
FULL_TOKENS = 40 * 524_288
CHEAP_FRACTION = 8


def rung_tokens(preset: Preset, rung: str) -> int:
    """Tokens of a rung, before the split's size limits it. Raises ConfigError for an unknown rung."""
    if rung not in RUNGS:
        raise ConfigError(f"unknown evaluation {rung!r}; known: {', '.join(RUNGS)}")
    reference = preset.reference_tokens or preset.eval_tokens
    sizes = (reference // CHEAP_FRACTION, reference, FULL_TOKENS)
    return dict(zip(RUNGS, sizes, strict=True))[rung]


def one_pass(dataset: Dataset, sequence_len: int, limit: int) -> int:
    """Tokens in the whole rows that one pass over the validation split fills, or `limit` if they are more.

    A longer evaluation would read the same documents twice.
    """
    split = dataset.split("val")
    total = int(split.ids.size) + len(split)  # every document is preceded by the BOS token
    loader = BestFitLoader(split, 1, sequence_len, dataset.tokenizer.bos_id)
    tokens = 0
    while tokens < limit:
        next(loader)
        if loader.tokens_placed + loader.tokens_cropped > total:
            break
        tokens += sequence_len
    return tokens


def full_tokens(dataset: Dataset, sequence_len: int, batch_tokens: int) -> int:
    """Tokens of the full rung on this dataset; the rows of the cheaper ones are spread over these."""
    return limited(FULL_TOKENS, one_pass(dataset, sequence_len, FULL_TOKENS), batch_tokens)


def limited(tokens: int, available: int, batch_tokens: int) -> int:
    """`tokens`, or what one pass holds, in whole batches; at least one batch, even if that repeats documents."""
    return max(min(tokens, available) // batch_tokens, 1) * batch_tokens
