"""Under which of the user's ranges a piece of work was launched, forward or backward.

Innermost first: a range that was open on the launching thread; for an operator of autograd the range in which its
forward operator ran (they share a sequence number); else a range of the whole process, or of the one other thread that
had any open: while autograd's thread works, the one that called backward waits in its range.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from autoresearch_lab.trace.timeline import DeviceWork, Range, Timeline, by_thread, enclosing, launch_points

_BACKWARD = " backward"
Chain = tuple[Range, ...]


class Owner(NamedTuple):
    """names: of the ranges, the innermost last; empty: none. backward: it is work of the backward pass."""

    names: tuple[str, ...]
    backward: bool


NOBODY = Owner((), False)


def row_name(name: str) -> tuple[str, bool]:
    """(name of the row, whether it is its backward): `rope backward` is the lab's name for the backward of rope."""
    plain = name.removesuffix(_BACKWARD)
    return plain, plain != name


class Owners:
    """ranges: those that may own work."""

    def __init__(self, timeline: Timeline, ranges: Sequence[Range]) -> None:
        self._ranges, self._operators = ranges, timeline.operators
        self._users = by_thread(ranges)
        self._is_user = {id(one) for one in ranges}
        self._origins: dict[int, Chain] = {}

    def of(self, work: Sequence[DeviceWork]) -> list[Owner]:
        """One per piece of work; those that are equal are one object."""
        points = launch_points(work)
        # An operator that knows no sequence number tells nothing.
        telling = [
            one for one in self._operators if one.backward and one.sequence is not None and id(one) not in self._is_user
        ]
        chains = enclosing(by_thread([*telling, *self._ranges]), points)
        different = {id(chain): chain for chain in chains}.values()
        self._find_origins({id(one): one for chain in different for one in chain if id(one) not in self._is_user})
        waiting = self._of_processes(points)
        known: dict[tuple[int, int], Owner] = {}
        same: dict[Owner, Owner] = {}
        found = []
        for chain, outer in zip(chains, waiting, strict=True):
            key = (id(chain), id(outer))
            owner = known.get(key)
            if owner is None:
                owner = self._owner(chain, outer)
                owner = known[key] = same.setdefault(owner, owner)
            found.append(owner)
        return found

    def _owner(self, chain: Chain, outer: Chain) -> Owner:
        within_backward = False
        for place in range(len(chain) - 1, -1, -1):
            one = chain[place]
            if id(one) in self._is_user:
                backward = within_backward or any(other.backward for other in chain)
                return self._named((*self._shared(outer), *self._users_of(chain[: place + 1])), backward)
            within_backward = True
            if origin := self._origins.get(id(one)):
                return self._named(origin, True)
        return self._named(self._open_elsewhere(outer), within_backward)

    def _users_of(self, chain: Chain) -> Chain:
        return tuple(one for one in chain if id(one) in self._is_user)

    @staticmethod
    def _named(chain: Chain, backward: bool) -> Owner:
        if not chain:
            return Owner((), backward) if backward else NOBODY
        names = [row_name(one.name) for one in chain]
        return Owner(tuple(name for name, _ in names), backward or names[-1][1])

    @staticmethod
    def _shared(outer: Chain) -> Chain:
        """Of the ranges open in a process those that belong to no thread."""
        return tuple(one for one in outer if one.thread[1] is None)

    def _open_elsewhere(self, outer: Chain) -> Chain:
        threads = {one.thread for one in outer if one.thread[1] is not None}
        return outer if len(threads) == 1 else self._shared(outer)

    def _of_processes(self, points: Sequence[tuple[Hashable, int] | None]) -> list[Chain]:
        processes: dict[Hashable, list[Range]] = defaultdict(list)
        for one in self._ranges:
            processes[one.thread[0]].append(one)
        asked = [None if point is None else (point[0][0], point[1]) for point in points]  # type: ignore[index]
        return enclosing(processes, asked)

    def _find_origins(self, backward: dict[int, Range]) -> None:
        """Per backward operator the user's ranges in which its forward operator ran."""
        wanted = {(one.thread[0], one.sequence) for one in backward.values()}
        forward: dict[tuple[Hashable, int | None], list[tuple[int, Hashable]]] = defaultdict(list)
        for one in self._operators:
            key = (one.thread[0], one.sequence)
            if not one.backward and key in wanted:
                forward[key].append((one.start, one.thread))
        for listed in forward.values():
            listed.sort(key=lambda pair: pair[0])
        points: list[tuple[Hashable, int] | None] = []
        for one in backward.values():
            listed = forward.get((one.thread[0], one.sequence), [])
            # Operators that make no node of the graph show the number of the next that does: the last one is meant.
            place = bisect_right(listed, one.start, key=lambda pair: pair[0]) - 1
            points.append((listed[place][1], listed[place][0]) if place >= 0 else None)
        self._origins = dict(zip(backward, enclosing(self._users, points), strict=True))
