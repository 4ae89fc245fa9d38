"""Commands in turns: while one computes the others stand still, and no step is longer for it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.versions.turns import SETTLING_STEPS, Pause, execute_in_turns, settled, without_pauses

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's supervisor")

# Steps of 10 ms by the clock that all processes share; it says when it may be stopped, and leaves its steps.
TRAINER = """
import json, os, sys, time
open(sys.argv[1] + "/pid", "w").write(str(os.getpid()))
steps = []
for step in range(int(sys.argv[2])):
    begun = time.monotonic()
    while time.monotonic() < begun + 0.01:
        pass
    steps.append((begun, time.monotonic()))
    if step == 2:
        open(sys.argv[1] + "/ready", "w").close()
json.dump(steps, open(sys.argv[1] + "/steps.json", "w"))
sys.exit(int(sys.argv[3]))
"""


def in_turns(folder: Path, *counts: int, codes: tuple[int, ...] = (), seconds: float = 30.0):
    outs = [folder / str(place) for place in range(len(counts))]
    for out in outs:
        out.mkdir()
    commands = [
        [sys.executable, "-c", TRAINER, str(out), str(count), str(code)]
        for out, count, code in zip(outs, counts, codes or (0,) * len(counts), strict=True)
    ]

    def turn(place: int) -> float | None:
        return 0.2 if (outs[place] / "ready").exists() else None

    return execute_in_turns(commands, [folder] * len(counts), outs, seconds, turn), outs


def test_no_step_but_an_interrupted_one_is_made_while_another_process_computes(tmp_path: Path):
    ends, outs = in_turns(tmp_path, 100, 60)
    undisturbed = []
    offset = time.time() - time.monotonic()
    for (end, pauses), out in zip(ends, outs, strict=True):
        steps = json.loads((out / "steps.json").read_text())
        said = [(ended + offset, step + 1) for step, (_, ended) in enumerate(steps) if step % 4 == 0]
        assert end.code == 0 and len(pauses) >= 2
        seconds, places = without_pauses([ended - begun for begun, ended in steps], pauses, said)
        assert max(seconds) < 0.1 and 1 <= len(places) <= len(pauses), (pauses, places)
        assert end.seconds == pytest.approx(sum(seconds), abs=0.5)
        kept = settled(len(steps), places)
        undisturbed.append([steps[step] for step in kept])
        assert kept[0] == places[0] + SETTLING_STEPS + 1 and not set(kept) & set(places)
    first, second = undisturbed
    assert not any(a < d and c < b for a, b in first for c, d in second)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_stands_still_ends_with_the_lab(tmp_path: Path, number: int):
    place = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {place!r}); from test_turns import *; "
    code += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); in_turns(Path(sys.argv[1]), 3000, 3000)"
    lab = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=CHECKOUT)
    ready = [tmp_path / name / "ready" for name in "01"]
    assert wait_for(lambda: all(path.exists() for path in ready))
    trainers = [psutil.Process(int((path.parent / "pid").read_text())) for path in ready]
    assert wait_for(lambda: any(trainer.status() == psutil.STATUS_STOPPED for trainer in trainers))
    lab.send_signal(number)
    lab.wait(30)
    assert wait_for(lambda: not any(trainer.is_running() for trainer in trainers))


def wait_for(found: Callable[[], bool]) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if found():
            return True
        time.sleep(0.02)
    return False


def test_one_that_fails_ends_the_others(tmp_path: Path):
    started = time.monotonic()
    ((ended, _), (other, _)), _ = in_turns(tmp_path, 60, 2000, codes=(3, 0))
    assert ended.code == 3 and other.code is None and time.monotonic() - started < 15


def test_time_that_runs_out_ends_all(tmp_path: Path):
    ends, _ = in_turns(tmp_path, 3000, 3000, seconds=2.0)
    assert [end.code for end, _ in ends] == [None, None]


def test_what_is_over_before_turns_begin_runs_to_its_end(tmp_path: Path):
    ends, _ = in_turns(tmp_path, 1, 30)
    assert [end.code for end, _ in ends] == [0, 0] and all(len(pauses) <= 1 for _, pauses in ends)


def test_a_pause_is_taken_out_of_the_step_that_it_fell_into():
    """Also where other steps are as long as the pause: those before it, beside which another process began."""
    steps = [9.0, 2.4, 2.6, *[0.1] * 10, 2.6, *[0.1] * 15, 3.1, *[0.1] * 4]
    made = [(9.0, 1), (14.0, 3), (14.6, 9), (18.0, 18), (19.0, 28), (22.6, 30)]
    pauses = [Pause(15.0, 2.5), Pause(19.1, 3.0), Pause(22.9, 2.8)]
    seconds, places = without_pauses(steps, pauses, made)
    assert places[:2] == [13, 29] and seconds == pytest.approx([9.0, 2.4, 2.6, *[0.1] * 31])
    assert settled(34, places[:2]) == [*range(15, 29), 31, 32, 33]
    assert settled(34, places[:1], 20) == list(range(20, 34)) and settled(20, [13]) == settled(30, []) == []
