"""Outputs of timed calls, kept for a later look."""

import random
from collections.abc import Callable
from typing import Any


class Keeper:
    """Keeps elements of the outputs of a random subset of timed calls, `count` per (arm, workload).

    Reservoir sampling, so every timed visit has the same chance however many there will be. A kernel cannot know which
    call is kept before it has returned. probe(output): the elements of it that are kept, in an engine's own arrays.
    """

    def __init__(self, count: int, rng: random.Random, probe: Callable[[Any], Any]) -> None:
        self._probe = probe
        self._count = count
        self._rng = rng
        self._seen: dict[tuple[int, int], int] = {}
        self._kept: dict[tuple[int, int, int], tuple[int, list[Any]]] = {}

    def slot(self, arm: int, workload: int) -> int | None:
        """The place that the next visit of (arm, workload) is to be kept in; None = not kept."""
        seen = self._seen[arm, workload] = self._seen.get((arm, workload), 0) + 1
        place = self._rng.randrange(seen) if seen > self._count else seen - 1
        return place if place < self._count else None

    def keep(self, slot: int, arm: int, workload: int, content: int, outputs: list[Any]) -> None:
        self._kept[arm, workload, slot] = (content, self._sample(outputs))

    def _sample(self, outputs: list[Any]) -> list[Any]:
        return [self._probe(output) for output in outputs]

    def tensors(self, repeat: Callable[[int, int, int], list[Any]], reference: int) -> dict[str, Any]:
        """Everything that was kept, with what the same arm and arm `reference` give now for the same contents.

        repeat(arm, workload, content) calls a kernel once more, untimed, and returns its outputs. Names are
        "<timed|again|reference>/<arm>/<workload>/<slot>/<number of the output>".
        """
        found: dict[str, Any] = {}
        for (arm, workload, slot), (content, values) in sorted(self._kept.items()):
            again = self._sample(repeat(arm, workload, content))
            trusted = self._sample(repeat(reference, workload, content))
            for kind, group in (("timed", values), ("again", again), ("reference", trusted)):
                for number, value in enumerate(group):
                    found[f"{kind}/{arm}/{workload}/{slot}/{number}"] = value
        return found
