"""Any two Python functions, timed in turns in fresh processes."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from autoresearch_lab.bench.measure import LEAST_ROUNDS, MOST_ROUNDS
from autoresearch_lab.bench.rule import BUDGET_SECONDS, Rule
from autoresearch_lab.bench.session import process_seconds
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.gate.race import Compared, Turns, race
from autoresearch_trainer.probe.load import ForeignLoad

# A sample takes at least so long, or the clock's own time is part of it.
LEAST_SAMPLE_SECONDS = 1e-3
WARM_UP = 3


def compare_calls(
    f: Callable[..., object],
    g: Callable[..., object],
    inputs: Sequence[Any] = (),
    *,
    synchronize: Callable[[], object] | None = None,
    budget_seconds: float = BUDGET_SECONDS,
    rule: Rule | None = None,
    seed: int | None = None,
) -> Compared:
    """Is g(*inputs) faster than f(*inputs), for sure? FASTER, SLOWER, SAME or AMBIGUOUS, with the interval of the time
    of f / the time of g.

    Both are called in turns in processes that are started anew (4, 8 or 16 of them), so they, `inputs` and
    `synchronize` have to be what another process can import or unpickle: functions of a module, not lambdas. A script
    that calls this does so under `if __name__ == "__main__"`. synchronize: waits until a device is done, such as
    torch.cuda.synchronize. Nothing is verified: whether both compute the same is not asked.

    Raises:
        LabError: something cannot be handed to another process.
        LabFailure: a process died. What f or g raises is raised.
    """
    try:
        pickle.dumps((f, g, tuple(inputs), synchronize))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise LabError(f"compare_calls: another process cannot have this: {error}") from None
    rule = rule or Rule()
    seconds = process_seconds(budget_seconds)

    def take(seed: int) -> Turns:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                return pool.submit(_measure, f, g, tuple(inputs), synchronize, seconds, seed).result()
            except BrokenProcessPool:
                raise LabFailure(
                    "compare_calls: a process died; is the script's own work under `if __name__ == '__main__'`?"
                ) from None

    name = f"{getattr(f, '__name__', 'f')} -> {getattr(g, '__name__', 'g')}"
    return race(name, take, rule, budget_seconds, seed)


def _measure(
    f: Callable[..., object],
    g: Callable[..., object],
    inputs: tuple[Any, ...],
    synchronize: Callable[[], object] | None,
    seconds: float,
    seed: int,
) -> Turns:
    """In the child: rounds for about `seconds`. A round visits f, f again and g in a drawn order and then in the
    reverse of it, so that drift falls on all alike; its samples are the means of both visits."""
    rng = np.random.default_rng(seed)
    arms = (f, f, g)

    def sample(function: Callable[..., object], calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            function(*inputs)
        if synchronize is not None:
            synchronize()
        return (time.perf_counter() - began) / calls

    for function in arms[1:]:
        sample(function, WARM_UP)
    calls = max(1, round(LEAST_SAMPLE_SECONDS / max(1e-9, min(sample(f, WARM_UP), sample(g, WARM_UP)))))
    rounds: list[np.ndarray] = []
    load = ForeignLoad()
    gc.disable()
    end = time.monotonic() + seconds
    while len(rounds) < LEAST_ROUNDS or (time.monotonic() < end and len(rounds) < MOST_ROUNDS):
        order = rng.permutation(len(arms)).tolist()
        found = np.zeros(len(arms))
        for arm in [*order, *reversed(order)]:
            found[arm] += sample(arms[arm], calls) / 2
        rounds.append(found)
        gc.collect()
    return Turns(np.array(rounds), load.since_last())
