"""What is watched of kernels that Triton's interpreter runs: order of programs, memory, races, rounding."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

# In a process of its own: the interpreter is chosen when Triton is imported.
SCRIPT = """
import inspect, json, torch, triton, triton.language as tl
from autoresearch_cuda.probe import interpreter

@triton.jit
def copy(x, y, n, SHIFT: tl.constexpr, TILE: tl.constexpr):
    place = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(y + place, tl.load(x + place + SHIFT, place < n), place < n)

@triton.jit
def first_come(order, counter):
    tl.store(order + tl.atomic_add(counter, 1), tl.program_id(0) * 10 + tl.program_id(1))

@triton.jit
def total(x, out, ATOMIC: tl.constexpr, TILE: tl.constexpr):
    share = tl.sum(tl.load(x + tl.program_id(0) * TILE + tl.arange(0, TILE)), axis=0)
    if ATOMIC:
        tl.atomic_add(out, share)
    else:
        tl.store(out, tl.load(out) + share)

@triton.jit
def neighbours(x):
    program = tl.program_id(0)
    tl.store(x + program, tl.load(x + program + 1))

@triton.jit
def narrow(x, y, TILE: tl.constexpr):
    place = tl.arange(0, TILE)
    tl.store(y + place, tl.load(x + place).to(tl.bfloat16))

@triton.jit
def widen(x, y, TILE: tl.constexpr):
    place = tl.arange(0, TILE)
    tl.store(y + place, tl.load(x + place).to(tl.float32))

@triton.jit
def one_more(value):
    return value + tl.full((1,), 1, tl.float32)

@triton.jit
def often(y, TIMES: tl.constexpr):
    place = tl.arange(0, 1)
    value = tl.load(y + place)
    for _ in tl.static_range(TIMES):
        value = one_more(value)
    tl.store(y + place, value)

def outcome(kernel, grid, *args, **constants):
    try:
        kernel[grid](*args, **constants)
        return "fine"
    except Exception as error:
        return f"{type(error).__name__}: {error}"

assert interpreter.in_use()
watch = interpreter.Watch(shuffle=3)
watch.install()
x, y = torch.arange(64.0), torch.zeros(64)
found = {"copy": outcome(copy, (4,), x, y, 64, SHIFT=0, TILE=16), "copied": bool((x == y).all())}
orders = []
for _ in range(2):
    order, counter = torch.zeros(12, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    first_come[(4, 3)](order, counter)
    orders.append(order.tolist())
found["orders"] = orders
found["outside"] = outcome(copy, (4,), x, y, 64, SHIFT=1, TILE=16)
found["before"] = outcome(copy, (4,), x, y, 64, SHIFT=-1, TILE=16)
out = torch.zeros(1)
found["atomic"] = outcome(total, (4,), x, out, ATOMIC=True, TILE=16), out.item()
out.zero_()
found["lost update"] = outcome(total, (4,), x, out, ATOMIC=False, TILE=16), out.item()
found["reads a neighbour's"] = outcome(neighbours, (8,), x)
# A half unit in the last place above 1, ties to even; just above it; NaN; infinity.
values = torch.tensor([1.00390625, 1.01171875, 1.004, float("nan"), float("inf"), -1.005, 0.0, 3e38])
rounded = torch.zeros(8, dtype=torch.bfloat16)
narrow[(1,)](values, rounded, TILE=8)
found["rounded"] = torch.equal(rounded.nan_to_num(7.0), values.bfloat16().nan_to_num(7.0))
every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
wide = torch.zeros(2**16)
widen[(1,)](every, wide, TILE=2**16)
found["widened"] = torch.equal(wide.view(torch.int32), every.float().view(torch.int32))
looks, members = [], inspect.getmembers
inspect.getmembers = lambda *args: looks.append(args) or members(*args)
found["looks"], found["counted"] = [], []
for times in (1, 5, 1):
    looks.clear()
    out.zero_()
    often[(1,)](out, TIMES=times)
    found["looks"].append(len(looks))
    found["counted"].append(out.item())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("interpreter") / "script.py"
    path.write_text(SCRIPT)
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_kernel_that_keeps_to_its_memory_runs(found):
    assert found["copy"] == "fine" and found["copied"]


def test_every_launch_runs_all_programs_in_an_order_of_its_own(found):
    everyone = [10 * x + y for x in range(4) for y in range(3)]
    first, second = found["orders"]
    assert sorted(first) == sorted(second) == everyone
    assert first != everyone and second != everyone and first != second


@pytest.mark.parametrize("name", ["outside", "before"])
def test_an_access_outside_the_arguments_is_an_error(found, name):
    assert "copy: program" in found[name] and "touches 1 addresses outside the memory of its arguments" in found[name]


def test_sums_through_atomics_are_no_race(found):
    assert found["atomic"] == ["fine", 2016.0]


def test_a_sum_that_is_read_and_written_by_all_is_a_race_though_its_value_is_right(found):
    words, value = found["lost update"]
    assert words.startswith("DataRace: total: programs") and "both write the same memory" in words
    assert value == 2016.0


def test_reading_what_another_program_writes_is_a_race(found):
    assert found["reads a neighbour's"].startswith("DataRace: neighbours: programs")
    assert "write and read the same memory" in found["reads a neighbour's"]


def test_float32_is_rounded_to_the_nearest_bfloat16(found):
    assert found["rounded"]


def test_every_bfloat16_becomes_the_same_number_in_float32_also_below_the_normal_range(found):
    assert found["widened"]


def test_functions_are_looked_for_once_per_launch_and_not_at_every_call(found):
    assert found["counted"] == [1.0, 5.0, 1.0]
    assert found["looks"][0] == found["looks"][1] == found["looks"][2] > 0
