"""Several kernels timed against each other in rounds: every workload is visited once per round, in random order, and
there the arms in random order and then in reverse (A B C C B A), so that drift and slow disturbances fall on all alike.

Every single call gets fresh contents, outside the timed window. The engine supplies the stopwatch.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.keeper import Keeper
from autoresearch_trainer.probe.load import ForeignLoad

# A sample of short calls is at least this long and made of several of them: the first after another kernel is slower.
SAMPLE_SECONDS, SHORT_SECONDS = 1e-3, 5e-3
LEAST_CALLS, MOST_CALLS = 3, 16
# Warm-up: this many calls after the first, one where a call is slow, and more until one was not disturbed (of slow ones
# fewer: long calls hardly ever are).
WARM_CALLS, MOST_WARM_CALLS, SLOW_WARM_CALLS, SLOW_SECONDS = 5, 15, 4, 0.05
# Calls that the system disturbed are repeated, short ones this often at least and all until a sample takes this long.
RETRIES, RETRY_SECONDS = 8, 0.02
CONTENT_NUMBERS = 1 << 20
# Contents are scaled by 0.8 ... 1.25 from call to call; steps of the golden ratio do not repeat and fill evenly.
LEAST_SCALE, SCALE_RANGE, GOLDEN = 0.8, 0.45, 0.6180339887498949


@dataclass
class Timing:
    """One timed call. forward_ns, backward_ns: 0 where there is none. outputs: of the call, then the gradients.

    disturbed: the system put one of this process's threads aside meanwhile, to run something else on its core. At a
    barrier all other threads wait for it, so one call can take a hundred times as long as the next. On a GPU that is
    timed by events: the device had to wait for the host.
    host_ns, queue_ns: there, per direction, the window by the host's clock, and how long the call took to return.
    """

    forward_ns: int
    backward_ns: int
    outputs: list[Any]
    disturbed: bool
    host_ns: tuple[int, ...] = ()
    queue_ns: tuple[int, ...] = ()

    @property
    def ns(self) -> int:
        return self.forward_ns + self.backward_ns


class Watch(Protocol):
    """Times one call of a kernel on content number `number` of an engine's own call object."""

    def measure(self, function: Kernel, call: Any, number: int) -> Timing: ...

    def clock(self) -> int: ...

    def window_ns(self) -> float: ...


def content_scale(number: int) -> float:
    """The factor of content `number`; no two numbers share one."""
    return LEAST_SCALE + SCALE_RANGE * (number * GOLDEN % 1.0)


def cotangent_sets(contents: int) -> int:
    """How many sets of cotangents go with so many contents: one more, so that taking turns pairs each with each. A
    gradient that is one number, a sum that may cancel, then shows its usual size."""
    return contents + 1


def empty_window_ns(clock: Callable[[], int]) -> float:
    """What an empty window shows: the median of many."""
    empty = []
    for _ in range(1001):
        start = clock()
        empty.append(clock() - start)
    return float(sorted(empty)[500])


@dataclass
class Disturbed:
    """Of one arm: `calls` made in all, `aside` set aside because the system disturbed them, `samples` taken, and
    `unclean` ones that hold nothing but disturbed calls."""

    calls: int = 0
    aside: int = 0
    samples: int = 0
    unclean: int = 0


class Rounds:
    """The arms and the calls that they are timed on, and what was measured so far."""

    def __init__(self, watch: Watch, arms: list[Kernel], calls: list[Any], rng: random.Random, keeper: Keeper) -> None:
        self.watch, self.arms, self.calls, self.rng, self.keeper = watch, arms, calls, rng, keeper
        self.counts: list[int] = []
        self.tries: list[int] = []
        self.samples: list[list[list[list[list[float]]]]] = []
        self.clean: list[list[list[list[bool]]]] = []
        self.orders: list[list[list[Any]]] = []
        self.foreign_load: list[float | None] = []
        self.disturbed = [Disturbed() for _ in arms]
        self.timed_ns = 0
        self._load = ForeignLoad()

    @property
    def done(self) -> int:
        return len(self.samples)

    def warm_up(self, counts: list[int] | None, tell: Callable[[int], None] = lambda warmed: None) -> list[list[float]]:
        """Run every arm a few times on every workload and fix how many calls make a sample: by the fastest arm's time,
        and at least as many as given. Returns the first calls' time in ms (arm, workload), compilation included.
        `tell` hears after each arm on each workload how many of them are warm."""
        first = [[0.0] * len(self.calls) for _ in self.arms]
        for place, call in enumerate(self.calls):
            fastest = float("inf")
            for number, arm in enumerate(self.arms):
                first[number][place] = round(self.watch.measure(arm, call, 0).ns / 1e6, 4)
                fastest = min(fastest, self._warm(arm, call))
                tell(place * len(self.arms) + number + 1)
            short = fastest < SHORT_SECONDS
            needed = min(MOST_CALLS, round(SAMPLE_SECONDS / max(fastest, 1e-9)))
            self.counts.append(max(counts[place] if counts else 1, LEAST_CALLS if short else 1, needed))
            self.tries.append(self.counts[place] + (RETRIES if short else 0))
        return first

    def _warm(self, arm: Kernel, call: Any) -> float:
        """Seconds of the fastest of some calls. The first call may have compiled something, so whether a kernel is slow
        shows in the second; and among calls that were all disturbed a short one cannot be told from a slow one."""
        fastest, clean, done = float("inf"), False, 0
        while done < WARM_CALLS or (not clean and done < MOST_WARM_CALLS):
            timing = self.watch.measure(arm, call, 1 + done)
            fastest, clean, done = min(fastest, timing.ns / 1e9), clean or not timing.disturbed, done + 1
            if fastest > SLOW_SECONDS and (clean or done >= SLOW_WARM_CALLS):
                break
        return fastest

    def round(self) -> None:
        """Visit every workload once, with each arm twice there; within a visit all arms see the same contents."""
        samples = [[[[0.0, 0.0] for _ in self.calls] for _ in self.arms] for _ in range(2)]
        clean = [[[False for _ in self.calls] for _ in self.arms] for _ in range(2)]
        orders = []
        for place in self.rng.sample(range(len(self.calls)), len(self.calls)):
            order = self.rng.sample(range(len(self.arms)), len(self.arms))
            orders.append([place, order])
            for visit, sequence in enumerate((order, order[::-1])):
                content = self.rng.randrange(CONTENT_NUMBERS)
                for arm in sequence:
                    samples[visit][arm][place], clean[visit][arm][place] = self._sample(arm, place, content)
        self.samples.append(samples)
        self.clean.append(clean)
        self.orders.append(orders)
        self.foreign_load.append(self._load.since_last())

    def _sample(self, arm: int, place: int, content: int) -> tuple[list[float], bool]:
        """([forward, backward] in ns per call, True): the mean over as many undisturbed calls as make a sample, or as
        there were before the time for another try was over; over all calls, and False, where each was disturbed."""
        count, call, function, counts = self.counts[place], self.calls[place], self.arms[arm], self.disturbed[arm]
        slot = self.keeper.slot(arm, place)
        kept = self.rng.randrange(count) if slot is not None else None
        clean: list[tuple[int, int]] = []
        rough: list[tuple[int, int]] = []
        spent = step = 0
        while len(clean) < count and (step < self.tries[place] or spent < RETRY_SECONDS * 1e9):
            timing = self.watch.measure(function, call, content + step)
            (rough if timing.disturbed else clean).append((timing.forward_ns, timing.backward_ns))
            if slot is not None and step == kept:
                self.keeper.keep(slot, arm, place, content + step, timing.outputs)
            spent += timing.ns
            step += 1
        self.timed_ns += spent
        counts.calls += step
        counts.aside += len(rough) if clean else 0
        counts.samples += 1
        counts.unclean += not clean
        used = clean or rough
        return [sum(times) / len(used) for times in zip(*used, strict=True)], bool(clean)

    def repeat(self, arm: int, place: int, content: int) -> list[Any]:
        """Outputs and gradients of one more call, not counted."""
        return self.watch.measure(self.arms[arm], self.calls[place], content).outputs
