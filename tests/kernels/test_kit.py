"""vector.h and gemm.h at every instruction set that this processor has, against NumPy."""

import ctypes
import os
import shutil
from itertools import product

import ml_dtypes
import numpy as np
import pytest

from autoresearch_common import compiler, instruction_set
from autoresearch_cuda import native

SOURCE = """
#include "gemm.h"
using namespace autoresearch;

// One function of a vector, on arrays; the last vector is loaded and stored in part.
template <typename T, typename Function>
int each(const void* x, void* y, int64_t count, Function function) {
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(y);
    for (int64_t i = 0; i < count; i += LANES) store_some(to + i, function(load_some(from + i, count - i)), count - i);
    return 0;
}

extern "C" int apply(int what, const void* x, void* y, int64_t count) {
    switch (what) {
        case 0: return each<float>(x, y, count, [](Floats v) { return exp_of(v); });
        case 1: return each<float>(x, y, count, [](Floats v) { return exp2_of(v); });
        case 2: return each<float>(x, y, count, [](Floats v) { return reciprocal(v); });
        case 3: return each<float>(x, y, count, [](Floats v) { return square_root(v); });
        case 4: return each<float>(x, y, count, [](Floats v) { return at_most(at_least(v, splat(-1)), splat(1)); });
        case 5: return each<bfloat16>(x, y, count, [](Floats v) { return v * 3.0f; });
        case 6: return each<float16>(x, y, count, [](Floats v) { return v * 3.0f; });
        case 7: return each<float>(x, y, count, [](Floats v) { return splat(sum(v)); });
        case 8: return each<float>(x, y, count, [](Floats v) { return splat(largest(v)); });
        case 9: return each<float>(x, y, count, [](Floats v) { return select(first_lanes(3), v, -v); });
        case 10: return each<float>(x, y, count, [](Floats v) { return exp2_rough(v); });
        default: return -1;
    }
}

extern "C" int lanes() { return LANES; }

// y (rows, columns) = a (rows, depth) b, where b is given with its strides, packed and multiplied as T wants it.
template <typename T>
int multiply_as(const void* a, const void* b, int64_t b_row, int64_t b_column, int64_t rows, int64_t depth,
                int64_t columns, float* y, float* scratch) {
    using P = Packed<T>;
    const int64_t groups = groups_of<P>(depth);
    P *left = reinterpret_cast<P*>(scratch), *right = left + rows * groups * GROUP<P>;
    pack_rows(static_cast<const T*>(a), depth, rows, depth, left);
#pragma omp parallel
    pack_panels(static_cast<const T*>(b), b_row, b_column, depth, columns, right);
    for (int64_t n = 0; n < columns; n += PANEL)
        for (int64_t r = 0; r < rows; r += ROWS) {
            Floats tile[ROWS][COLUMNS];
            const int64_t here = rows - r < ROWS ? rows - r : ROWS;
            multiply_rows(here, left + r * groups * GROUP<P>, groups * GROUP<P>, GROUP<P>,
                          right + n / PANEL * panel_size<P>(depth), groups, tile);
            for (int64_t i = 0; i < here; ++i)
                for (int c = 0; c < COLUMNS; ++c)
                    store_some(y + (r + i) * columns + n + c * LANES, tile[i][c], columns - n - c * LANES);
        }
    return int(GROUP<P>);
}

extern "C" int matmul(const void* a, const void* b, int64_t b_row, int64_t b_column, int64_t rows, int64_t depth,
                      int64_t columns, float* y, float* scratch, int dtype) {
    return dispatch(dtype, [&](auto tag) {
        return multiply_as<decltype(tag)>(a, b, b_row, b_column, rows, depth, columns, y, scratch);
    });
}
"""
NAMES = [each.name for each in instruction_set.known()]
CODES = {np.dtype(np.float32): 0, np.dtype(ml_dtypes.bfloat16): 1, np.dtype(np.float16): 2}
pytestmark = pytest.mark.skipif(not any(map(shutil.which, compiler.COMPILERS)), reason="no C++ compiler")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("kit") / "kernel.cpp"
    path.write_text(SOURCE)
    return path


@pytest.fixture(params=NAMES)
def library(request, source, monkeypatch):
    if request.param not in [each.name for each in instruction_set.available()]:
        pytest.skip(f"this processor has no {request.param}")
    monkeypatch.setenv(instruction_set.VARIABLE, request.param)
    library = ctypes.CDLL(str(native.build(source)))
    library.apply.argtypes = [native.CODE, native.POINTER, native.POINTER, native.INTEGER]
    library.matmul.argtypes = [*[native.POINTER] * 2, *[native.INTEGER] * 5, *[native.POINTER] * 2, native.CODE]
    return library


def apply(library, what: int, x: np.ndarray) -> np.ndarray:
    """What the function makes of x; the array's surroundings stay as they are."""
    y = np.full(x.size + 64, 7.0, x.dtype)
    assert library.apply(what, x.ctypes.data, y.ctypes.data, x.size) == 0
    assert (y[x.size :] == 7).all()
    return y[: x.size]


def test_elementary_functions(library):
    rng = np.random.default_rng(0)
    x = rng.uniform(-86, 86, 1003).astype(np.float32)
    wide = x.astype(np.float64)
    assert (np.abs(apply(library, 0, x) / np.exp(wide) - 1) < 1.2e-7 + 8e-8 * np.abs(x)).all()
    assert np.abs(apply(library, 1, x) / np.exp2(wide) - 1).max() < 1.2e-7
    assert np.abs(apply(library, 10, x) / np.exp2(wide) - 1).max() < 3e-6
    whole = np.arange(-126, 128, dtype=np.float32)
    assert np.array_equal(apply(library, 1, whole), np.ldexp(np.float32(1), whole.astype(int)))
    # On either side of what rounds to an integer.
    halves = np.nextafter(np.arange(-100.5, 100, 1, dtype=np.float32), np.float32(200))
    assert np.abs(apply(library, 1, halves) / np.exp2(halves.astype(np.float64)) - 1).max() < 1.2e-7
    assert np.abs(apply(library, 2, x) * wide - 1).max() < 2.5e-7
    assert np.array_equal(apply(library, 3, np.abs(x)), np.sqrt(np.abs(x)))
    assert np.array_equal(apply(library, 4, x / 40), np.clip(x / 40, -1, 1))


def test_what_is_not_finite(library):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    with np.errstate(over="ignore"):
        assert np.allclose(apply(library, 0, x), [np.nan, np.exp(np.float32(88)), 1e-38, 1, 1], 1e-4, 1e-37, True)
    assert np.isnan(apply(library, 2, x)[0]) and np.isnan(apply(library, 3, x)[0])
    assert np.array_equal(apply(library, 4, x), [np.nan, 1, -1, 0, 0], equal_nan=True)


@pytest.mark.parametrize(("what", "dtype"), [(5, ml_dtypes.bfloat16), (6, np.float16)])
def test_narrow_types_round_as_numpy(library, what, dtype):
    """All values there are, times 3: ties, subnormals, overflow, infinities and NaN."""
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    with np.errstate(all="ignore"):
        expected = (x.astype(np.float32) * np.float32(3)).astype(dtype)
    found = apply(library, what, x)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    numbers = ~np.isnan(expected)
    assert np.array_equal(found[numbers].view(np.uint16), expected[numbers].view(np.uint16))


def test_lanes_together(library):
    lanes = library.lanes()
    x = np.arange(2 * lanes + 1, dtype=np.float32) - 3
    padded = np.concatenate([x, np.zeros(lanes - 1, np.float32)]).reshape(3, lanes)
    assert np.array_equal(apply(library, 7, x), padded.sum(1).repeat(lanes)[: x.size])
    assert np.array_equal(apply(library, 8, x), padded.max(1).repeat(lanes)[: x.size])
    signs = np.where(np.arange(x.size) % lanes < 3, 1, -1)
    assert np.array_equal(apply(library, 9, x), x * signs)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_products(library, dtype):
    """Odd sizes, both ways in which a right operand is stored, and strides that are neither."""
    rng = np.random.default_rng(0)
    for rows, depth, columns in product((1, 6, 13), (1, 2, 7, 64, 129), (1, 15, 64, 131)):
        a = rng.standard_normal((rows, depth)).astype(dtype)
        whole = rng.standard_normal((2 * depth, 2 * columns)).astype(dtype)
        for b in (whole[:depth, :columns], np.asfortranarray(whole[:depth, :columns]), whole[::2, ::2]):
            y, scratch = np.full((rows, columns), np.nan, np.float32), np.full((rows + 200) * (depth + 1), np.nan, "f4")
            strides = [stride // b.itemsize for stride in b.strides]
            library.matmul(
                a.ctypes.data, b.ctypes.data, *strides, rows, depth, columns, y.ctypes.data, scratch.ctypes.data,
                CODES[a.dtype],
            )  # fmt: skip
            expected = a.astype(np.float64) @ b.astype(np.float64)
            size = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
            assert (np.abs(y - expected) <= 1e-6 * size).all(), (rows, depth, columns, b.strides)


def test_dot_products_are_used_where_there_are_any(library):
    one, y, scratch = np.ones(1, ml_dtypes.bfloat16), np.empty(1, np.float32), np.empty(1000, np.float32)
    pointer = one.ctypes.data
    group = library.matmul(pointer, pointer, 1, 1, 1, 1, 1, y.ctypes.data, scratch.ctypes.data, 1)
    assert group == (2 if os.environ[instruction_set.VARIABLE].endswith("bf16") else 1) and y[0] == 1
