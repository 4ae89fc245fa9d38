"""Trainings of several sides in turns: while one computes, the others are stopped.

The speed of a machine that others share moves by 10 % and more within seconds, and stays for some: two trainings that
follow each other meet different machines, two that take turns of a second meet the same one. A process is stopped by
SIGSTOP, which it does not notice: the step in which that happens is longer by the time that it stood still, which is
taken out of it again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import psutil

from autoresearch_lab.sandbox.command import last_line, start
from autoresearch_lab.sandbox.parent import end_all
from autoresearch_lab.versions.process import CommandEnd, side_environment
from autoresearch_trainer.probe.load import ForeignLoad

# A turn, where steps are short, and the least number of steps in one.
TURN_SECONDS, TURN_STEPS = 1.0, 5
# After it was stopped a process finds caches in disorder: so many steps do not count.
SETTLING_STEPS = 1
LEAST_STEPS = 8
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Pause:
    """at: when a process was stopped, in s since the epoch; seconds: for how long."""

    at: float
    seconds: float


@dataclass
class _SideProcess:
    process: Popen
    started: float
    pauses: list[Pause] = field(default_factory=list)
    stopped_at: float | None = None
    ended_at: float | None = None

    @property
    def ended(self) -> bool:
        if self.ended_at is None and self.process.poll() is not None:
            self.ended_at = time.monotonic()
        return self.ended_at is not None

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)
        self.stopped_at = time.monotonic()

    def go_on(self) -> None:
        if self.stopped_at is not None:
            stood = time.monotonic() - self.stopped_at
            self.pauses.append(Pause(time.time() - stood, stood))
            self.stopped_at = None
            self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        """To everything below the supervisor, which itself goes on and sees to it that nothing is left over."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for process in below:
            try:
                process.send_signal(number)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass


def execute_in_turns(
    commands: Sequence[Sequence[str]],
    folders: Sequence[Path],
    outs: Sequence[Path],
    seconds: float,
    turn: Callable[[int], float | None],
) -> list[tuple[CommandEnd, list[Pause]]]:
    """Run commands, each in its folder, all together for at most so many seconds; what they print goes to files in
    their `outs`. Returns of each how it ended, its seconds without those that it stood still, and when that was.

    All begin at once. turn: for a command, the length of its next turn in s, None as long as it is not to be stopped
    yet. Once none is to be spared, one runs at a time. Where one fails, the others are ended.
    """
    load, deadline = ForeignLoad(children=True), time.monotonic() + seconds
    with ExitStack() as stack:
        running = [
            stack.enter_context(_started(command, folder, out))
            for command, folder, out in zip(commands, folders, outs, strict=True)
        ]

        def over() -> bool:
            failed = any(one.ended and one.process.returncode != 0 for one in running)
            return failed or time.monotonic() > deadline

        order = _wait_for_all(running, turn, over)
        while order and not over() and not all(one.ended for one in running):
            for place in order:
                others = [other for other in running if other is not running[place]]
                _take_turn(running[place], turn(place) or TURN_SECONDS, others, over)
        while not over() and not all(one.ended for one in running):
            time.sleep(_POLL_SECONDS)
        share = load.share()
        ends = []
        for one, out in zip(running, outs, strict=True):
            code = one.process.returncode if one.ended else None
            one.go_on()
            took = (one.ended_at or time.monotonic()) - one.started - sum(pause.seconds for pause in one.pauses)
            ends.append((CommandEnd(code, took, share, last_line(out / "stderr.log")), one.pauses))
    return ends


@contextmanager
def _started(command: Sequence[str], folder: Path, out: Path) -> Iterator[_SideProcess]:
    with open(out / "stdout.log", "wb") as stdout, open(out / "stderr.log", "wb") as stderr:
        one = _SideProcess(start(command, folder, side_environment(folder), stdout, stderr), time.monotonic())
        try:
            yield one
        finally:
            one.go_on()  # what is stopped does not hear that it is to end
            end_all(one.process)


def _wait_for_all(
    running: Sequence[_SideProcess], turn: Callable[[int], float | None], over: Callable[[], bool]
) -> list[int]:
    """Stop each as soon as it may be stopped: their places, those that stand still longest first, so that no pause is
    short; empty where one ended before."""
    stopped: list[int] = []
    while len(stopped) < len(running):
        if over() or any(one.ended for one in running):
            for one in running:
                one.go_on()
            return []
        for place, one in enumerate(running):
            if place not in stopped and turn(place) is not None:
                one.stop()
                stopped.append(place)
        time.sleep(_POLL_SECONDS)
    return stopped


def _take_turn(one: _SideProcess, length: float, others: Sequence[_SideProcess], over: Callable[[], bool]) -> None:
    if one.ended:
        return
    one.go_on()
    until = time.monotonic() + length
    while not one.ended and not over() and (time.monotonic() < until or all(other.ended for other in others)):
        time.sleep(_POLL_SECONDS)
    if not one.ended:
        one.stop()


def without_pauses(
    step_seconds: Sequence[float], pauses: Sequence[Pause], made: Sequence[tuple[float, int]]
) -> tuple[list[float], list[int]]:
    """(seconds of each step without those that the process stood still, the steps in which it did). made: (time, steps
    made by then), as the process said now and then; in order, as the pauses are.

    A pause is in the longest step between what was said before it and after it; one that is longer than that step fell
    between two.
    """
    seconds, places = list(step_seconds), []
    for pause in pauses:
        before = max((steps for at, steps in made if at <= pause.at), default=0)
        after = min((steps for at, steps in made if at > pause.at), default=len(seconds))
        among = range(min(before, len(seconds)), min(max(after, before + 1), len(seconds)))
        if among:
            longest = max(among, key=seconds.__getitem__)
            seconds[longest] -= pause.seconds if pause.seconds < seconds[longest] else 0.0
            places.append(longest)
    return seconds, places


def settled(count: int, places: Sequence[int], first: int = 0) -> list[int]:
    """Of `count` steps, those of undisturbed turns: from step `first` on, behind the first that was interrupted, and
    not among the interrupted ones nor the first few after one. Empty where these are too few."""
    unsettled = {place + after for place in places for after in range(SETTLING_STEPS + 1)}
    kept = [step for step in range(max(first, places[0] + 1), count) if step not in unsettled] if places else []
    return kept if len(kept) >= LEAST_STEPS else []
