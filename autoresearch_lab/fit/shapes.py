"""The shapes that are tried around a preset: other depths, widths and tokens per step, and those of other presets."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autoresearch_trainer.config import PRESETS, GPTConfig, preset, reshaped_name
from autoresearch_trainer.errors import ConfigError

LEAST_WIDTH = 64


def neighbours(base: str, tokens: int) -> list[str]:
    """Names of shapes of preset `base`, itself first, then the nearer before the farther, of equally near ones the
    larger. tokens: that it takes per step here."""
    own = PRESETS[base].model
    found = {}
    for depth, width in _depths_and_widths(own):
        for factor in (0.5, 1, 2, 4):
            step = int(tokens * factor)
            name = reshaped_name(base, depth, width, step)
            if (depth, width, step) == (own.n_layer, own.n_embd, tokens) or step % own.sequence_len or not _fits(name):
                continue
            found[name] = (_distance(own, depth, width) + abs(math.log2(factor)), -depth * width * width, step)
    return [base, *sorted(found, key=lambda name: found[name])]


def crossed(base: str, tokens: int, best: list[str]) -> str | None:
    """What the two best shapes change of `base`, in one shape; None where that is one of them, or no shape."""
    own = PRESETS[base].model

    def numbers(name: str) -> tuple[int, int, int]:
        found = preset(name)
        return found.model.n_layer, found.model.n_embd, found.total_batch_tokens

    usual = own.n_layer, own.n_embd, tokens
    pairs = zip(*(numbers(name) for name in best[:2]), usual, strict=True)
    name = reshaped_name(base, *(first if first != default else second for first, second, default in pairs))
    return name if name not in best and _fits(name) else None


def _depths_and_widths(own: GPTConfig) -> Iterator[tuple[int, int]]:
    depths = {max(1, own.n_layer // 2), own.n_layer, own.n_layer + max(1, own.n_layer // 2), 2 * own.n_layer}
    widths = {LEAST_WIDTH * max(1, round(own.n_embd * factor / LEAST_WIDTH)) for factor in (0.5, 1, 1.5, 2)}
    others = {(one.model.n_layer, one.model.n_embd) for one in PRESETS.values()}
    yield from sorted({(depth, width) for depth in depths for width in widths} | others)


def _distance(own: GPTConfig, depth: int, width: int) -> float:
    return abs(math.log2(depth / own.n_layer)) + abs(math.log2(width / own.n_embd))


def _fits(name: str) -> bool:
    """Whether there is such a shape: heads divide its width, passes its step."""
    try:
        return bool(preset(name))
    except ConfigError:
        return False
