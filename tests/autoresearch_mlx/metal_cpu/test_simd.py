"""Collectives of simdgroups, and 8x8 simdgroup matrices, against NumPy."""

import ml_dtypes
import numpy as np
import pytest

BF16 = np.dtype(ml_dtypes.bfloat16)


def groups(x, width=32):
    """The values of each simdgroup; a ragged last one is shorter."""
    return [x[i : i + width] for i in range(0, len(x), width)]


def spread(x, function, width=32):
    return np.concatenate([np.full(len(part), function(part)) for part in groups(x, width)])


@pytest.mark.parametrize("threads", [256, 77, 20], ids=["whole", "ragged", "one_short"])
def test_reductions(run, rng, threads):
    x = rng.integers(-9, 9, threads).astype(np.int32)
    source = """
        uint i = thread_position_in_grid.x;
        int v = x[i];
        sum[i] = simd_sum(v); low[i] = simd_min(v); high[i] = simd_max(v); both[i] = simd_and(v); one[i] = simd_xor(v);
        before[i] = simd_prefix_exclusive_sum(v); upto[i] = simd_prefix_inclusive_sum(v);
        quad[i] = quad_sum(v); some[i] = simd_any(v > 7); every[i] = simd_all(v > -10);
        votes[i] = popcount(uint(ulong(simd_ballot(v > 0))));
    """
    names = "sum low high both one before upto quad some every votes".split()
    results, report = run(source, {"x": x}, {name: (x.shape, np.int32) for name in names}, (threads, 1, 1), (128, 1, 1))
    got = dict(zip(names, results, strict=True))
    expected = {
        "sum": spread(x, np.sum), "low": spread(x, np.min), "high": spread(x, np.max),
        "both": spread(x, np.bitwise_and.reduce), "one": spread(x, np.bitwise_xor.reduce),
        "upto": np.concatenate([np.cumsum(part) for part in groups(x)]), "quad": spread(x, np.sum, 4),
        "some": spread(x > 7, np.any), "every": np.ones(threads), "votes": spread(x > 0, np.sum),
    }  # fmt: skip
    expected["before"] = expected["upto"] - x
    for name in names:
        assert np.array_equal(got[name], expected[name]), name
    assert report.ok and not report.findings


def test_shuffles(run):
    x = np.arange(64, dtype=np.float32)
    source = """
        uint i = thread_position_in_grid.x;
        ushort lane = thread_index_in_simdgroup;
        a[i] = simd_shuffle(x[i], ushort(31 - lane)); b[i] = simd_shuffle_xor(x[i], 5); c[i] = simd_shuffle_up(x[i], 3);
        d[i] = simd_shuffle_down(x[i], 3); e[i] = simd_broadcast(x[i], 7); f[i] = simd_broadcast_first(x[i]);
        g[i] = simd_shuffle_rotate_down(x[i], 3); h[i] = simd_shuffle_and_fill_up(x[i], -x[i], 2);
        p[i] = quad_shuffle_xor(x[i], 1); q[i] = quad_broadcast(x[i], 2);
        float2 two = simd_shuffle_xor(float2(x[i], 1.0), 1); r[i] = two.x;
    """
    names = "abcdefghpqr"
    results, report = run(source, {"x": x}, {n: (x.shape, np.float32) for n in names}, (64, 1, 1), (64, 1, 1))
    got = dict(zip(names, results, strict=True))
    lane, base = np.arange(64) % 32, np.arange(64) // 32 * 32
    expected = {
        "a": base + 31 - lane, "b": base + (lane ^ 5), "c": np.where(lane < 3, x, x - 3),
        "d": np.where(lane > 28, x, x + 3), "e": base + 7, "f": base, "g": base + (lane + 3) % 32,
        "h": np.where(lane < 2, -(base + 30 + lane), x - 2), "p": base + (lane ^ 1), "q": base + lane // 4 * 4 + 2,
        "r": base + (lane ^ 1),
    }  # fmt: skip
    for name in names:
        assert np.array_equal(got[name], expected[name]), name
    assert not report.findings


def test_only_active_lanes_take_part(run):
    source = """
        uint i = thread_position_in_grid.x;
        y[i] = -1;
        if (i % 32 < 10) y[i] = simd_sum(1);
        if (i >= 40) return;
        z[i] = simd_sum(1);
    """
    outputs = {"y": ((64,), np.int32), "z": ((64,), np.int32)}
    (y, z), report = run(source, {}, outputs, (64, 1, 1), (64, 1, 1), init_value=0)
    assert np.array_equal(y, np.where(np.arange(64) % 32 < 10, 10, -1))
    assert np.array_equal(z[:40], [32] * 32 + [8] * 8)
    assert {(finding.kind, finding.place.line) for finding in report.findings} == {("divergent-collective", 4)}
    assert report.ok


def test_reading_an_inactive_lane_is_noted(run):
    source = "uint i = thread_position_in_grid.x; y[i] = simd_shuffle_down(float(i), 16);"
    (y,), report = run(source, {}, {"y": ((20,), np.float32)}, (20, 1, 1), (20, 1, 1))
    assert np.array_equal(y[:4], np.arange(16, 20)) and np.isnan(y[4:16]).all()
    assert [finding.kind for finding in report.findings] == ["inactive-lane"]


def test_barriers_in_loops_and_ragged_threadgroups(run, rng):
    """A tree reduction through threadgroup memory, with a last threadgroup that is not full."""
    x = rng.integers(0, 100, 1000).astype(np.int32)
    source = """
        threadgroup int part[128];
        uint t = thread_index_in_threadgroup, n = threads_per_threadgroup.x;
        part[t] = x[thread_position_in_grid.x];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint step = 64; step > 0; step /= 2) {
            if (t < step && t + step < n) part[t] += part[t + step];
            threadgroup_barrier(mem_flags::mem_threadgroup);
        }
        if (t == 0) y[threadgroup_position_in_grid.x] = part[0];
    """
    for check in (False, True):
        (y,), report = run(source, {"x": x}, {"y": ((8,), np.int32)}, (1000, 1, 1), (128, 1, 1), check=check)
        assert np.array_equal(y, [part.sum() for part in groups(x, 128)])
        assert not report.findings and report.threadgroup_bytes == 512


MATMUL = """
    threadgroup T tile[64];
    uint2 at = threadgroup_position_in_grid.xy;
    simdgroup_matrix<T, 8, 8> a, b;
    simdgroup_matrix<float, 8, 8> sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (uint k = 0; k < K; k += 8) {
        simdgroup_load(a, A + at.y * 8 * K + k, K);
        simdgroup_load(b, B + (TRANSPOSED ? at.x * 8 * K + k : k * N + at.x * 8), TRANSPOSED ? K : N, 0, TRANSPOSED);
        simdgroup_multiply_accumulate(sum, a, b, sum);
    }
    simdgroup_store(sum, C + at.y * 8 * N + at.x * 8, N);
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16], ids=["float", "half", "bfloat"])
@pytest.mark.parametrize("transposed", [False, True])
def test_matrix_product(run, rng, dtype, transposed):
    m, n, k = 16, 24, 40
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    template = [("T", dtype), ("N", n), ("K", k), ("TRANSPOSED", transposed)]
    inputs = {"A": a, "B": np.ascontiguousarray(b.T) if transposed else b}
    source = MATMUL.replace("threadgroup T tile[64];", "")
    outputs = {"C": ((m, n), np.float32)}
    for check in (False, True):
        (c,), report = run(
            source, inputs, outputs, (n // 8 * 32, m // 8, 1), (32, 1, 1), template=template, check=check
        )
        expected = a.astype(np.float64) @ b.astype(np.float64)
        assert np.allclose(c, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        assert not report.findings


def test_matrix_elements_lie_where_their_coordinates_say(run):
    """Through thread_elements, with the layout that published kernels rely on."""
    source = """
        ushort lane = thread_index_in_simdgroup;
        simdgroup_float8x8 m;
        simdgroup_load(m, x, 8);
        short quad = lane / 4;
        short row = (quad & 4) + (lane / 2) % 4, column = (quad & 2) * 2 + (lane % 2) * 2;
        m.thread_elements()[0] += 100 * row;
        m.thread_elements()[1] += 100 * row;
        rows[lane] = row * 8 + column;
        simdgroup_store(m, y, 8, ulong2(0, 0), true);
    """
    x = np.arange(64, dtype=np.float32)
    outputs = {"y": ((8, 8), np.float32), "rows": ((32,), np.int32)}
    (y, rows), _ = run(source, {"x": x}, outputs, (32, 1, 1), (32, 1, 1))
    assert np.array_equal(y.T, x.reshape(8, 8) + 100 * np.arange(8)[:, None])
    assert sorted(rows) == list(range(0, 64, 2))


def test_half_results_round_once(run, rng):
    a, b = (rng.normal(size=(8, 8)).astype(np.float16) for _ in range(2))
    source = """
        simdgroup_half8x8 p, q, r;
        simdgroup_load(p, a); simdgroup_load(q, b);
        simdgroup_multiply(r, p, q);
        simdgroup_store(r, y);
        simdgroup_store(simdgroup_half8x8(2.0h) * p, z);
    """
    outputs = {"y": ((8, 8), np.float16), "z": ((8, 8), np.float16)}
    (y, z), _ = run(source, {"a": a, "b": b}, outputs, (32, 1, 1), (32, 1, 1))
    total = np.zeros((8, 8), np.float32)
    for k in range(8):
        total += a[:, k, None].astype(np.float32) * b[None, k].astype(np.float32)
    assert np.array_equal(y, total.astype(np.float16)) and np.array_equal(z, 2 * a)
