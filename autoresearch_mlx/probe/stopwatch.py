"""One call of a kernel under the clock: its fresh contents, and the timed windows.

MLX is lazy, so that a window ends when the results have been evaluated. On a GPU starting and awaiting work takes
longer than many kernels; there a window holds several calls, each of which waits for the one before.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_mlx.arrays import to_numpy
from autoresearch_mlx.memory import on_gpu
from autoresearch_mlx.probe.layout import Argument
from autoresearch_trainer.jobs.timing import TimedCall
from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.load import involuntary_switches
from autoresearch_trainer.probe.rounds import Timing, content_scale, cotangent_sets, empty_window_ns

GPU_REPEATS = 8
POSITIONS = 512


class Call:
    """One workload. contents: {argument: NumPy array}. Content number n = the rows rolled by one of the shifts, and
    floating values scaled by a factor that no other n shares, so nothing computed for one call is of use in another."""

    def __init__(self, workload: TimedCall, contents: dict[str, np.ndarray]) -> None:
        self.id: str = workload["id"]
        self.gradient: bool = workload["gradient"]
        self.specs = workload["args"]
        self._arrays = [spec for spec in self.specs if spec["kind"] == "array"]
        self._shifts = workload["shifts"]
        self._pool = [
            {spec["name"]: Argument(spec, _rolled(contents[spec["name"]], shift)) for spec in self._arrays}
            for shift in self._shifts
        ]
        self.leaves = [
            place for place, spec in enumerate(self.specs) if spec["kind"] == "array" and spec["grad"] and self.gradient
        ]
        self._cotangents: list[list[mx.array]] = []

    def arguments(self, number: int) -> list[Any]:
        """The arguments with content `number`, evaluated."""
        scale = content_scale(number)
        pool = self._pool[number % len(self._pool)]
        values = [pool[s["name"]].scaled(scale) if s["kind"] == "array" else s["value"] for s in self.specs]
        mx.eval([value for value in values if isinstance(value, mx.array)])
        return values

    def cotangents(self, function: Kernel, arguments: list[Any], number: int) -> list[mx.array]:
        """Random cotangents in the shapes and dtypes of what `function` returns, the same for every arm; 1 for a
        scalar, as a loss has it."""
        if not self._cotangents:
            outputs, rng = _sequence(function(*arguments)), np.random.default_rng(len(self._pool))
            sets = cotangent_sets(len(self._pool))
            self._cotangents = [[_cotangent(output, rng) for output in outputs] for _ in range(sets)]
            mx.eval(self._cotangents)
        return self._cotangents[number % len(self._cotangents)]


def _rolled(content: np.ndarray, shift: int) -> np.ndarray:
    """A copy whose rows (last axis) lie `shift` places further on, all leading axes counted as one.

    Other contents with the same statistics: second moments stay positive and class numbers stay valid.
    """
    if content.size == 0:
        return content
    rows = content.reshape(-1, content.shape[-1]) if content.ndim > 1 else content.reshape(-1)
    return np.roll(rows, shift, 0).reshape(content.shape)


def _cotangent(output: mx.array, rng: np.random.Generator) -> mx.array:
    value = rng.standard_normal(output.shape, dtype=np.float32) if output.ndim else np.ones((), np.float32)
    return mx.array(value).astype(output.dtype)


class Replay(Call):
    """A call that the trainer made, with the arguments that it had. leaves: numbers of those that get gradients."""

    def __init__(self, arguments: list[Any], leaves: list[int]) -> None:
        self.gradient = bool(leaves)
        self.leaves = leaves
        self._arguments = arguments
        self._pool = [{}]
        self._cotangents = []

    def arguments(self, number: int) -> list[Any]:
        return self._arguments


class Stopwatch:
    """Times calls in nanoseconds. To be made before any kernel is loaded: it keeps the clock that it found then.

    repeats: calls in a window, one after the other; times are those of one.
    """

    def __init__(self, repeats: int | None = None) -> None:
        self.clock = time.perf_counter_ns
        self.repeats = repeats or (GPU_REPEATS if on_gpu() else 1)

    def measure(self, function: Kernel, call: Call, number: int) -> Timing:
        """Forward, and backward where the trainer needs it, of one call on content `number`."""
        clock = self.clock
        arguments = call.arguments(number)
        if not call.leaves:
            switches = involuntary_switches()
            start = clock()
            rounds = self._chain(lambda given: _sequence(function(*given)), arguments)
            mx.eval(rounds)
            forward = clock() - start
            return Timing(forward // self.repeats, 0, rounds[-1], involuntary_switches() != switches)
        cotangents = call.cotangents(function, arguments, number)

        def both(given: list[Any]) -> list[mx.array]:
            def differentiated(*leaves: mx.array) -> list[mx.array]:
                return _sequence(function(*_replaced(given, call.leaves, leaves)))

            outputs, gradients = mx.vjp(differentiated, [given[place] for place in call.leaves], cotangents)
            return [*outputs, *gradients]

        switches, count = involuntary_switches(), len(cotangents)
        start = clock()
        rounds = self._chain(both, arguments)
        # The forward results first: what backward needs of them is kept, and only its own work is left.
        mx.eval([results[:count] for results in rounds])
        forward = clock() - start
        start = clock()
        mx.eval(rounds)
        backward = clock() - start
        disturbed = involuntary_switches() != switches
        return Timing(forward // self.repeats, backward // self.repeats, rounds[-1], disturbed)

    def _chain(self, once: Callable[[list[Any]], list[mx.array]], arguments: list[Any]) -> list[list[mx.array]]:
        """The results of every repetition; each depends on the one before, without any work in between."""
        rounds: list[list[mx.array]] = []
        given = arguments
        for _ in range(self.repeats):
            rounds.append(once(given))
            place = next(i for i, value in enumerate(arguments) if isinstance(value, mx.array))
            if len(rounds) < self.repeats:
                waiting = mx.depends([arguments[place]], [rounds[-1][0]])
                given = [*arguments[:place], *waiting, *arguments[place + 1 :]]
        return rounds

    def window_ns(self) -> float:
        return empty_window_ns(self.clock)


def _sequence(result: Any) -> list[mx.array]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _replaced(values: list[Any], places: list[int], new: tuple[mx.array, ...]) -> list[Any]:
    found = list(values)
    for place, value in zip(places, new, strict=True):
        found[place] = value
    return found


def output_probe(rng: random.Random) -> Callable[[mx.array], np.ndarray]:
    """What a Keeper keeps of an output: elements at places drawn from `rng`, then the mean of all elements and the mean
    of their magnitudes: a part that was left out shows in these even if no position hits it. A single number as it is,
    once: it is judged as one. Float32."""
    positions = np.random.default_rng(rng.randrange(1 << 31)).integers(0, 1 << 40, POSITIONS)

    def probe(output: mx.array) -> np.ndarray:
        values = to_numpy(output).reshape(-1).astype(np.float64)
        with np.errstate(over="ignore"):
            if values.size <= 1:
                return values.astype(np.float32)
            means = [values.mean(), np.abs(values).mean()]
            return np.concatenate([values[positions % values.size], means]).astype(np.float32)

    return probe


def peak_bytes(action: Callable[[], object]) -> int:
    """Most memory that MLX's allocator held at once during `action`, beyond what it held before."""
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    action()
    return max(0, mx.get_peak_memory() - before)
