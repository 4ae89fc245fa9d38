"""Planted faults: each is caught by the build that is meant to catch it, in the right line; the sound kernel is clean.

The kernel is a softcapped RMS normalisation of rows, one threadgroup of 128 threads per row, with a row length that is
no multiple of it.
"""

import numpy as np
import pytest

ROWS, WIDTH, THREADS = 3, 300, 128
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
SOUND = """
    threadgroup float part[32];
    uint t = thread_index_in_threadgroup, lane = thread_index_in_simdgroup, group = simdgroup_index_in_threadgroup;
    uint row = threadgroup_position_in_grid.y;
    const device T* from = x + row * WIDTH;
    ACC sum = 0;
    for (uint i = t; i < WIDTH; i += 128) { float v = 15 * tanh(float(from[i]) / 15); sum += ACC(v * v); }
    sum = simd_sum(sum);
    if (lane == 0) part[group] = float(sum);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float total = simd_sum(lane < simdgroups_per_threadgroup ? part[lane] : 0.0f);
    float scale = rsqrt(total / WIDTH);
    for (uint i = t; i < WIDTH; i += 128) y[row * WIDTH + i] = T(15 * tanh(float(from[i]) / 15) * scale);
"""
LINE = {text: number for number, line in enumerate(SOUND.split("\n"), 1) for text in (line.strip(),)}
SUMMED, WROTE = LINE["sum = simd_sum(sum);"] - 1, LINE["if (lane == 0) part[group] = float(sum);"]
AT_BARRIER, LAST = LINE[BARRIER], len(SOUND.split("\n")) - 1


@pytest.fixture
def faulty(run, rng):
    """Run the kernel after replacing one piece of it; gives the greatest error and the report."""
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    capped = 15 * np.tanh(x.astype(np.float64) / 15)
    expected = capped / np.sqrt((capped**2).mean(-1, keepdims=True))

    def call(old="", new="", *, check, dtype=np.float32, accumulate=np.float32, scale=1.0):
        assert old in SOUND
        source = SOUND.replace(old, new, 1) if old else SOUND
        template = [("T", dtype), ("ACC", accumulate), ("WIDTH", WIDTH)]
        inputs, outputs = {"x": (x * scale).astype(dtype)}, {"y": (x.shape, dtype)}
        grid = (THREADS, ROWS, 1)
        (y,), report = run(source, inputs, outputs, grid, (THREADS, 1, 1), check=check, template=template)
        if scale != 1.0:
            wide = 15 * np.tanh(inputs["x"].astype(np.float64) / 15)
            return np.abs(y - wide / np.sqrt((wide**2).mean(-1, keepdims=True))).max(), report
        return np.abs(y - expected).max(), report

    return call


def found(report):
    return {finding.kind: finding for finding in report.failures}


@pytest.mark.parametrize("check", [False, True])
def test_sound_kernel_is_clean(faulty, check):
    error, report = faulty(check=check)
    assert error < 1e-5 and not report.findings and report.threadgroup_bytes == 128


def test_missing_barrier(faulty):
    error, report = faulty(BARRIER, check=False)
    assert not error < 1e-3  # wrong, or not a number
    _, report = faulty(BARRIER, check=True)
    race = found(report)["race"]
    assert {race.place.line, race.other.line} == {WROTE, AT_BARRIER + 1}
    assert "part[" in race.message


def test_barrier_that_orders_nothing(faulty):
    wrong = "threadgroup_barrier(mem_flags::mem_none);"
    error, report = faulty(BARRIER, wrong, check=False)
    assert error < 1e-5 and report.ok  # the schedule of the fast build hides it
    _, report = faulty(BARRIER, wrong, check=True)
    assert found(report)["race"].place.line == AT_BARRIER + 1
    _, report = faulty(BARRIER, "threadgroup_barrier(mem_flags::mem_device);", check=True)
    assert "race" in found(report)


def test_missing_simd_reduction(faulty):
    error, report = faulty("sum = simd_sum(sum);", check=False)
    assert error > 0.1 and report.ok


@pytest.mark.parametrize("check", [False, True])
def test_wrong_guard_on_the_ragged_edge(faulty, check):
    _, report = faulty("i < WIDTH; i += 128) { float v", "i < WIDTH + 2; i += 128) { float v", check=check)
    finding = found(report)["out-of-bounds-read"]
    assert finding.place.line == SUMMED and f"x[{ROWS * WIDTH}]" in finding.message


def test_write_past_the_end(faulty):
    old, new = "y[row * WIDTH + i]", "y[row * WIDTH + i + 1]"
    _, report = faulty(old, new, check=False)
    finding = found(report)["out-of-bounds-write"]
    assert finding.place.line == LAST and f"y[{ROWS * WIDTH}]" in finding.message
    _, report = faulty(old, new, check=True)
    assert {"out-of-bounds-write", "never-written"} <= set(found(report))


def test_uninitialised_threadgroup_memory(faulty):
    old, new = "lane < simdgroups_per_threadgroup ? part[lane] : 0.0f", "part[lane]"
    error, _ = faulty(old, new, check=False)
    assert np.isnan(error)
    _, report = faulty(old, new, check=True)
    finding = found(report)["uninitialised-read"]
    assert finding.place.line == AT_BARRIER + 1 and "part[4]" in finding.message


def test_beyond_a_threadgroup_variable(faulty):
    _, report = faulty("part[group] = float(sum)", "part[group + 30] = float(sum)", check=True)
    finding = found(report)["out-of-bounds-write"]
    assert finding.place.line == WROTE and "part[32]" in finding.message


@pytest.mark.parametrize("check", [False, True])
def test_last_elements_unwritten(faulty, check):
    error, report = faulty("i < WIDTH; i += 128) y", "i < WIDTH - 1; i += 128) y", check=check)
    assert np.isnan(error)
    assert f"{ROWS} of {ROWS * WIDTH} elements of y never written" in found(report)["never-written"].message


@pytest.mark.parametrize("check", [False, True])
def test_divergent_barrier(faulty, check):
    _, report = faulty(BARRIER, f"if (t < 96) {BARRIER}", check=check)
    finding = found(report)["divergent-barrier"]
    assert finding.place.line == AT_BARRIER and "96 threads wait here, 32 have returned" in finding.message
    _, report = faulty("ACC sum = 0;", "ACC sum = 0; if (t > 99) return;", check=check)
    assert "100 threads wait here, 28 have returned" in found(report)["divergent-barrier"].message
    _, report = faulty(BARRIER, f"if (t < 96) {BARRIER}\n    else {BARRIER}", check=check)
    assert f"32 elsewhere (source line {AT_BARRIER + 1})" in found(report)["divergent-barrier"].message


def test_plain_addition_to_shared_memory(faulty):
    _, report = faulty("part[group] = float(sum);", "part[0] += float(sum);", check=True)
    assert {"race", "uninitialised-read"} <= set(found(report))


def test_float16_accumulation_shows_as_error(faulty):
    """Rows whose sum of squares passes what half can hold to three digits, and then what it can hold at all."""
    sound, _ = faulty(check=False, scale=8.0)
    half, report = faulty(check=False, scale=8.0, accumulate=np.float16)
    assert sound < 1e-5 and half > 20 * sound and report.ok


def test_wrong_stride(run, rng):
    """A kernel that takes a strided array for a contiguous one reads wrong values, and between its elements."""
    base = rng.normal(size=(8, 12)).astype(np.float32)
    x = base[:, ::2]
    sound = "uint i = thread_position_in_grid.x; y[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];"
    wrong = "uint i = thread_position_in_grid.x; y[i] = x[i];"
    for source, right in ((sound, True), (wrong, False)):
        for check in (False, True):
            outputs = {"y": (x.shape, np.float32)}
            (y,), report = run(
                source, {"x": x}, outputs, (x.size, 1, 1), (16, 1, 1), check=check, ensure_row_contiguous=False
            )
            assert np.array_equal(y, x) == right
            assert ("gap-read" in found(report)) == (check and not right)


def test_exchange_inside_a_simdgroup_needs_its_barrier(run):
    source = """
        threadgroup float shared[32];
        uint i = thread_position_in_grid.x;
        shared[i] = i;
        BARRIER
        y[i] = shared[31 - i];
    """
    for barrier, right in (("simdgroup_barrier(mem_flags::mem_threadgroup);", True), ("", False)):
        text = source.replace("BARRIER", barrier)
        _, report = run(text, {}, {"y": ((32,), np.float32)}, (32, 1, 1), (32, 1, 1), check=True)
        assert report.ok == right


def test_races_between_threadgroups(run):
    same = "y[0] = 1.0f; (void)thread_position_in_grid;"
    _, report = run(same, {}, {"y": ((1,), np.float32)}, (64, 1, 1), (8, 1, 1), check=True)
    assert report.ok and [finding.kind for finding in report.findings] == ["same-value-write"]
    different = "y[0] = thread_position_in_grid.x;"
    _, report = run(different, {}, {"y": ((1,), np.float32)}, (64, 1, 1), (8, 1, 1), check=True)
    assert "race" in found(report)
    (_,), report = run(different, {}, {"y": ((1,), np.float32)}, (64, 1, 1), (8, 1, 1))
    assert "order-dependent" in found(report)


def test_more_threadgroup_memory_than_there_is(run):
    source = "threadgroup float big[9000]; big[0] = 1; y[0] = big[0]; (void)thread_position_in_grid;"
    for check in (False, True):
        _, report = run(source, {}, {"y": ((1,), np.float32)}, (1, 1, 1), (1, 1, 1), check=check)
        assert "36000 bytes of threadgroup memory; there are 32768" in found(report)["threadgroup-memory"].message


def test_writing_an_input_and_a_stack_too_small(run):
    x = np.ones(16, np.float32)
    source = "((device float*)x)[3] = 2; y[0] = x[3];"
    for check in (False, True):
        _, report = run(source, {"x": x}, {"y": ((1,), np.float32)}, (1, 1, 1), (1, 1, 1), check=check)
        assert "x[3]" in found(report)["input-written"].message
    assert (x == 1).all()
    source = "float big[100000]; for (int i = 0; i < 100000; ++i) big[i] = x[i % 16]; y[0] = big[int(x[0])];"
    _, report = run(source, {"x": x}, {"y": ((1,), np.float32)}, (1, 1, 1), (1, 1, 1))
    assert "stack-overflow" in found(report)
