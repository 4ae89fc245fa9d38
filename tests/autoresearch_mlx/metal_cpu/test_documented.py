"""What MLX documents of custom kernels, written afresh: elementwise exp, strided inputs, sampling on a grid."""

import numpy as np
import pytest

EXP = "uint elem = thread_position_in_grid.x; T tmp = inp[elem]; out[elem] = metal::exp(tmp);"
EXP_STRIDED = """
    uint elem = thread_position_in_grid.x;
    uint loc = elem_to_loc(elem, inp_shape, inp_strides, inp_ndim);
    T tmp = inp[loc];
    out[elem] = metal::exp(tmp);
"""


LAYOUTS = {
    "rows": lambda a: a[::2],
    "columns": lambda a: a[:, 1::3],
    "transposed": lambda a: a.T,
    "broadcast": lambda a: np.broadcast_to(a[:, :1], (6, 4, 5)),
}


def test_elementwise_exp(run, rng):
    a = rng.normal(size=(4, 16)).astype(np.float16)
    (b,), report = run(
        EXP, {"inp": a}, {"out": (a.shape, a.dtype)}, (a.size, 1, 1), (256, 1, 1), template=[("T", np.float32)]
    )
    assert np.allclose(b, np.exp(a.astype(np.float32)), rtol=1e-3) and not report.findings


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("contiguous", [False, True])
def test_strided_exp(run, rng, layout, contiguous):
    a = LAYOUTS[layout](rng.normal(size=(4, 16)).astype(np.float16))
    for check in (False, True):
        (b,), report = run(
            EXP_STRIDED, {"inp": a}, {"out": (a.shape, a.dtype)}, (a.size, 1, 1), (256, 1, 1), check=check,
            template=[("T", np.float32)], ensure_row_contiguous=contiguous,
        )  # fmt: skip
        assert np.allclose(b, np.exp(a.astype(np.float32)), rtol=1e-3) and not report.findings


def test_negative_strides_need_signed_offsets(run, rng):
    """The documented `uint loc` cannot hold a negative offset; a signed one does."""
    a = rng.normal(size=(4, 16)).astype(np.float16)[::-1, ::-1]
    signed = EXP_STRIDED.replace("uint loc = elem_to_loc(elem", "long loc = elem_to_loc(long(elem)")
    for source, right in ((EXP_STRIDED, False), (signed, True)):
        (b,), report = run(
            source, {"inp": a}, {"out": (a.shape, a.dtype)}, (a.size, 1, 1), (256, 1, 1),
            template=[("T", np.float32)], ensure_row_contiguous=False,
        )  # fmt: skip
        assert np.allclose(b, np.exp(a.astype(np.float32)), rtol=1e-3) == right
        assert [finding.kind for finding in report.failures] == ([] if right else ["wild-access"])


def corners(x, grid):
    """For NumPy: the four neighbours of each sample with their weights; (value, weight, inside, iy, ix) each."""
    _, height, width, _ = x.shape
    fx = ((grid[..., 0] + 1) * width - 1) / 2
    fy = ((grid[..., 1] + 1) * height - 1) / 2
    x0, y0 = np.floor(fx).astype(int), np.floor(fy).astype(int)
    batch = np.arange(x.shape[0])[:, None, None]
    for dy in (0, 1):
        for dx in (0, 1):
            ix, iy = x0 + dx, y0 + dy
            weight = (1 - np.abs(fx - ix)) * (1 - np.abs(fy - iy))
            inside = (ix >= 0) & (ix < width) & (iy >= 0) & (iy < height)
            value = x[batch, iy.clip(0, height - 1), ix.clip(0, width - 1)] * inside[..., None]
            yield value, weight, inside, iy, ix, fy, fx


SAMPLE_HEADER = """
struct Sample {
    float fx, fy;
    int x, y;
};
template <typename T>
Sample locate(const device T* grid, uint at, int width, int height) {
    Sample s;
    s.fx = ((grid[at] + 1) * width - 1) / 2;
    s.fy = ((grid[at + 1] + 1) * height - 1) / 2;
    s.x = floor(s.fx);
    s.y = floor(s.fy);
    return s;
}
"""
SAMPLE = """
    uint elem = thread_position_in_grid.x;
    int height = x_shape[1], width = x_shape[2], channels = x_shape[3];
    int samples = grid_shape[1] * grid_shape[2];
    int sample = elem / channels, channel = elem % channels;
    Sample s = locate(grid, sample * 2, width, height);
    T sum = 0;
    for (int k = 0; k < 4; ++k) {
        int ix = s.x + k % 2, iy = s.y + k / 2;
        if (GUARD && (ix < 0 || ix >= width || iy < 0 || iy >= height)) continue;
        T weight = (1 - abs(s.fx - ix)) * (1 - abs(s.fy - iy));
        sum += weight * x[((sample / samples * height + iy) * width + ix) * channels + channel];
    }
    out[elem] = sum;
"""
SAMPLE_VJP = """
    uint elem = thread_position_in_grid.x;
    int height = x_shape[1], width = x_shape[2], channels = x_shape[3];
    int padded = ceildiv(channels, threads_per_simdgroup) * threads_per_simdgroup;
    int samples = grid_shape[1] * grid_shape[2];
    int sample = elem / padded, channel = elem % padded;
    Sample s = locate(grid, sample * 2, width, height);
    T gx = 0, gy = 0;
    if (channel < channels) {
        T cot = cotangent[sample * channels + channel];
        for (int k = 0; k < 4; ++k) {
            int ix = s.x + k % 2, iy = s.y + k / 2;
            if (ix < 0 || ix >= width || iy < 0 || iy >= height) continue;
            int at = ((sample / samples * height + iy) * width + ix) * channels + channel;
            T wx = 1 - abs(s.fx - ix), wy = 1 - abs(s.fy - iy);
            atomic_fetch_add_explicit(&x_grad[at], wx * wy * cot, memory_order_relaxed);
            gx += x[at] * (k % 2 ? wy : -wy) * cot;
            gy += x[at] * (k / 2 ? wx : -wx) * cot;
        }
    }
    gx = simd_sum(gx);
    gy = simd_sum(gy);
    if (thread_index_in_simdgroup == 0) {
        atomic_fetch_add_explicit(&grid_grad[sample * 2], gx * width / 2, memory_order_relaxed);
        atomic_fetch_add_explicit(&grid_grad[sample * 2 + 1], gy * height / 2, memory_order_relaxed);
    }
"""


@pytest.fixture
def sampling(rng):
    x = rng.normal(size=(2, 5, 7, 3)).astype(np.float32)
    grid = rng.uniform(-1.3, 1.3, (2, 4, 6, 2)).astype(np.float32)  # some of it outside
    return x, grid


def test_grid_sample(run, sampling):
    x, grid = sampling
    shape = (*grid.shape[:3], x.shape[3])
    expected = sum(value * weight[..., None] for value, weight, *_ in corners(x.astype(np.float64), grid))
    for check in (False, True):
        (y,), report = run(
            SAMPLE, {"x": x, "grid": grid}, {"out": (shape, np.float32)}, (int(np.prod(shape)), 1, 1), (256, 1, 1),
            header=SAMPLE_HEADER, template=[("T", np.float32), ("GUARD", True)], check=check,
        )  # fmt: skip
        assert np.allclose(y, expected, atol=1e-5) and not report.findings


def test_grid_sample_without_its_guard_reads_outside(run, sampling):
    x, grid = sampling
    shape = (*grid.shape[:3], x.shape[3])
    _, report = run(
        SAMPLE, {"x": x, "grid": grid}, {"out": (shape, np.float32)}, (int(np.prod(shape)), 1, 1), (256, 1, 1),
        header=SAMPLE_HEADER, template=[("T", np.float32), ("GUARD", False)], check=True,
    )  # fmt: skip
    assert [finding.kind for finding in report.failures] == ["out-of-bounds-read"]


def test_grid_sample_vjp_with_atomics(run, rng, sampling):
    x, grid = sampling
    shape = (*grid.shape[:3], x.shape[3])
    cotangent = rng.normal(size=shape).astype(np.float32)
    x_grad, grid_grad = np.zeros(x.shape), np.zeros(grid.shape)
    batch = np.broadcast_to(np.arange(2)[:, None, None], grid.shape[:3])
    for value, weight, inside, iy, ix, fy, fx in corners(x.astype(np.float64), grid.astype(np.float64)):
        at = (batch[inside], iy[inside], ix[inside])
        np.add.at(x_grad, at, (weight[..., None] * cotangent)[inside])
        dot = (value * cotangent).sum(-1)
        grid_grad[..., 0] += np.sign(ix - fx) * (1 - np.abs(fy - iy)) * dot * x.shape[2] / 2
        grid_grad[..., 1] += np.sign(iy - fy) * (1 - np.abs(fx - ix)) * dot * x.shape[1] / 2
    outputs = {"x_grad": (x.shape, np.float32), "grid_grad": (grid.shape, np.float32)}
    inputs = {"x": x, "grid": grid, "cotangent": cotangent}
    threads = int(np.prod(grid.shape[:3])) * 32
    for check in (False, True):
        (dx, dgrid), report = run(
            SAMPLE_VJP, inputs, outputs, (threads, 1, 1), (256, 1, 1), header=SAMPLE_HEADER, check=check,
            template=[("T", np.float32)], init_value=0, atomic_outputs=True,
        )  # fmt: skip
        assert np.allclose(dx, x_grad, atol=1e-4) and np.allclose(dgrid, grid_grad, atol=1e-3)
        assert not report.findings


def test_atomics_without_an_initial_value_are_found(run):
    source = "atomic_fetch_add_explicit(&y[0], 1.0f, memory_order_relaxed); (void)thread_position_in_grid;"
    outputs = {"y": ((1,), np.float32)}
    (y,), report = run(source, {}, outputs, (64, 1, 1), (32, 1, 1), check=True, atomic_outputs=True, init_value=5)
    assert y[0] == 69 and not report.findings
    _, report = run(source, {}, outputs, (64, 1, 1), (32, 1, 1), check=True, atomic_outputs=True)
    assert [finding.kind for finding in report.failures] == ["uninitialised-read"]
