"""Work that ends before it is done is a failure, whatever ended it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
FRONT_DOOR = """import ctypes, os, signal, sys, time
from autoresearch_lab.sandbox.own_end import to_its_end
libc = ctypes.CDLL(None)
def main():
    {work}
    return {code}
sys.exit(to_its_end(main))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the work runs in the front door's process")


def start(work: str, code: int = 0) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    text = FRONT_DOOR.format(work=work, code=code)
    return subprocess.Popen([sys.executable, "-c", text], text=True, cwd=CHECKOUT, **pipes)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_work_that_is_done_ends_with_its_own_exit_code(code: int):
    process = start("print('worked')", code)
    assert process.communicate(timeout=30) == ("worked\n", "") and process.returncode == code


@pytest.mark.parametrize(
    ("work", "code", "how"),
    [
        ("libc.exit(0)", 1, "with exit code 0; native code may have called exit()"),
        ("libc._exit(0)", 1, "with exit code 0; native code may have called exit()"),
        ("os._exit(0)", 1, "with exit code 0; native code may have called exit()"),
        ("os.execv('/bin/true', ['true'])", 1, "with exit code 0; native code may have called exit()"),
        ("libc.exit(7)", 7, "with exit code 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "by SIGKILL; the system kills where memory runs out"),
        ("libc.abort()", 134, "by SIGABRT"),
    ],
)
def test_work_that_ends_before_it_is_done_is_said_and_no_success(work: str, code: int, how: str):
    process = start(work)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (code, f"error: this run ended before it was done, {how}\n")


def test_a_process_that_the_work_left_behind_is_not_waited_for():
    process = start("left = os.fork() or os.closerange(1, 3) or time.sleep(60); print(left, flush=True); libc._exit(0)")
    try:
        left = int(process.stdout.readline())
        assert process.wait(timeout=30) == 1
    finally:
        os.kill(left, signal.SIGKILL)


COUNTS = """got = []
    [signal.signal(each, lambda number, frame: got.append(number)) for each in (15, 2, 1)]
    print(os.getpid(), flush=True)
    while not got: time.sleep(0.01)
    time.sleep(0.2)
    print(got, flush=True)"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_handed_on_once(number: signal.Signals):
    process = start(COUNTS, 5)
    process.stdout.readline()
    process.send_signal(number)
    assert process.communicate(timeout=30) == (f"[{int(number)}]\n", "") and process.returncode == 5


def test_the_work_ends_with_its_front_door():
    process = start(COUNTS)
    work = int(process.stdout.readline())
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while Path(f"/proc/{work}").exists() and state(work) != "Z" and time.monotonic() < end:
        time.sleep(0.01)
    assert not Path(f"/proc/{work}").exists() or state(work) == "Z"


def test_both_stop_and_go_on_together():
    process = start(COUNTS, 5)
    work = int(process.stdout.readline())
    process.send_signal(signal.SIGTSTP)
    wait_for(lambda: state(work) == state(process.pid) == "T")
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: state(work) != "T" != state(process.pid))
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "[15]\n" and process.returncode == 5


def state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for(condition) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_training_runs_below_its_front_door():
    """`train.py` imports nothing of a framework, nor its own command, in the process that waits."""
    script = "import sys, train; print([name for name in sys.modules if name.startswith(('autoresearch', 'click'))])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CHECKOUT, check=True)
    assert "own_end" in found.stdout and "cli" not in found.stdout and "click" not in found.stdout
