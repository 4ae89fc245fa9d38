"""vector.h and gemm.h against NumPy at every instruction set: those that this processor has, and arm64's in an emulator
where there are a cross-compiler and qemu."""

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

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
# The same behind a pipe: {what, sizes...} and the arrays in, the status and the result out.
MAIN = """
#include <cstdio>
#include <vector>

int main() {
    int64_t n[8];
    if (fread(n, 8, 8, stdin) != 8) return 1;
    std::vector<char> a(n[6]), b(n[7]), y(n[5]);
    std::vector<float> scratch((n[3] + 200) * (n[4] + 1));
    if (fread(a.data(), 1, a.size(), stdin) + fread(b.data(), 1, b.size(), stdin) != a.size() + b.size()) return 1;
    int64_t status = LANES;
    if (n[0] >= 100) {
        const int64_t columns = n[5] / 4 / n[3];
        float* product = reinterpret_cast<float*>(y.data());
        status = matmul(a.data(), b.data(), n[1], n[2], n[3], n[4], columns, product, scratch.data(), n[0] - 100);
    } else if (n[0] >= 0) {
        y = b;
        status = apply(n[0], a.data(), y.data(), n[1]);
    }
    fwrite(&status, 8, 1, stdout);
    fwrite(y.data(), 1, y.size(), stdout);
}
"""
HERE = [each.name for each in instruction_set.available()]
CROSS, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
EMULATED = (
    {} if platform.machine() == "aarch64" else {each.name: each for each in instruction_set.known("aarch64")[:-1]}
)
CODES = {np.dtype(np.float32): 0, np.dtype(ml_dtypes.bfloat16): 1, np.dtype(np.float16): 2}
SURROUNDINGS = 64
pytestmark = pytest.mark.skipif(not any(map(shutil.which, compiler.COMPILERS)), reason="no C++ compiler")


class Loaded:
    """The functions in this process."""

    def __init__(self, source: Path) -> None:
        self._library = ctypes.CDLL(str(native.build(source)))
        self._library.apply.argtypes = [native.CODE, native.POINTER, native.POINTER, native.INTEGER]
        pointers, sizes = [native.POINTER] * 2, [native.INTEGER] * 5
        self._library.matmul.argtypes = [*pointers, *sizes, *pointers, native.CODE]
        self.lanes = self._library.lanes()

    def apply(self, what: int, x: np.ndarray, y: np.ndarray) -> None:
        assert self._library.apply(what, x.ctypes.data, y.ctypes.data, x.size) == 0

    def matmul(self, a: np.ndarray, b: np.ndarray, strides: list[int], y: np.ndarray) -> int:
        (rows, depth), columns = a.shape, b.shape[1]
        scratch = np.full((rows + 200) * (depth + 1), np.nan, np.float32)
        pointers = y.ctypes.data, scratch.ctypes.data
        return self._library.matmul(
            a.ctypes.data, b.ctypes.data, *strides, rows, depth, columns, *pointers, CODES[a.dtype]
        )


class Emulated:
    """The functions in a program for arm64."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self.lanes = self._ask([-1, 0, 0, 0, 0, 0], b"", b"")[0]

    def apply(self, what: int, x: np.ndarray, y: np.ndarray) -> None:
        status, content = self._ask([what, x.size, 0, 0, 0, y.nbytes], x.tobytes(), y.tobytes())
        assert status == 0
        y[:] = np.frombuffer(content, y.dtype)

    def matmul(self, a: np.ndarray, b: np.ndarray, strides: list[int], y: np.ndarray) -> int:
        extent = 1 + sum((size - 1) * stride for size, stride in zip(b.shape, strides, strict=True))
        storage = np.lib.stride_tricks.as_strided(b, (extent,), (b.itemsize,)).tobytes()
        numbers = [100 + CODES[a.dtype], *strides, *a.shape, y.nbytes]
        status, content = self._ask(numbers, a.tobytes(), storage)
        y[:] = np.frombuffer(content, np.float32).reshape(y.shape)
        return status

    def _ask(self, numbers: list[int], a: bytes, b: bytes) -> tuple[int, bytes]:
        given = np.array([*numbers, len(a), len(b)], np.int64).tobytes() + a + b
        answer = subprocess.run([EMULATOR, "-cpu", "max", self._program], input=given, capture_output=True, check=True)
        return int(np.frombuffer(answer.stdout[:8], np.int64)[0]), answer.stdout[8:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kit")


@pytest.fixture(params=[*HERE, *EMULATED])
def kit(request, folder, monkeypatch):
    name = request.param
    if name in HERE:
        monkeypatch.setenv(instruction_set.VARIABLE, name)
        source = folder / "kernel.cpp"
        source.write_text(SOURCE)
        return Loaded(source)
    if not (CROSS and EMULATOR):
        pytest.skip("needs aarch64-linux-gnu-g++ and qemu-aarch64")
    source, program = folder / "program.cpp", folder / name
    if not program.exists():
        source.write_text(SOURCE + MAIN)
        flags = (*native.FLAGS, *EMULATED[name].compiler_flags, f"-I{native.HEADERS}", "-static", "-fopenmp")
        compiler.run([CROSS, *flags, str(source), "-o", str(program)], source.name)
    return Emulated(program)


def apply(kit, what: int, x: np.ndarray) -> np.ndarray:
    """What the function makes of x; the array's surroundings stay as they are."""
    y = np.full(x.size + SURROUNDINGS, 7.0, x.dtype)
    kit.apply(what, x, y)
    assert (y[x.size :] == 7).all()
    return y[: x.size]


def test_elementary_functions(kit):
    rng = np.random.default_rng(0)
    x = rng.uniform(-86, 86, 1003).astype(np.float32)
    wide = x.astype(np.float64)
    assert (np.abs(apply(kit, 0, x) / np.exp(wide) - 1) < 1.2e-7 + 8e-8 * np.abs(x)).all()
    assert np.abs(apply(kit, 1, x) / np.exp2(wide) - 1).max() < 1.2e-7
    assert np.abs(apply(kit, 10, x) / np.exp2(wide) - 1).max() < 3e-6
    whole = np.arange(-126, 128, dtype=np.float32)
    assert np.array_equal(apply(kit, 1, whole), np.ldexp(np.float32(1), whole.astype(int)))
    # On either side of what rounds to an integer.
    halves = np.nextafter(np.arange(-100.5, 100, 1, dtype=np.float32), np.float32(200))
    assert np.abs(apply(kit, 1, halves) / np.exp2(halves.astype(np.float64)) - 1).max() < 1.2e-7
    assert np.abs(apply(kit, 2, x) * wide - 1).max() < 2.5e-7
    assert np.array_equal(apply(kit, 3, np.abs(x)), np.sqrt(np.abs(x)))
    assert np.array_equal(apply(kit, 4, x / 40), np.clip(x / 40, -1, 1))


def test_what_is_not_finite(kit):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    with np.errstate(over="ignore"):
        assert np.allclose(apply(kit, 0, x), [np.nan, np.exp(np.float32(88)), 1e-38, 1, 1], 1e-4, 1e-37, True)
    assert np.isnan(apply(kit, 2, x)[0]) and np.isnan(apply(kit, 3, x)[0])
    assert np.array_equal(apply(kit, 4, x), [np.nan, 1, -1, 0, 0], equal_nan=True)


@pytest.mark.parametrize(("what", "dtype"), [(5, ml_dtypes.bfloat16), (6, np.float16)])
def test_narrow_types_round_as_numpy(kit, what, dtype):
    """All values there are, times 3: ties, subnormals, overflow, infinities and NaN."""
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    with np.errstate(all="ignore"):
        expected = (x.astype(np.float32) * np.float32(3)).astype(dtype)
    found = apply(kit, what, x)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    numbers = ~np.isnan(expected)
    assert np.array_equal(found[numbers].view(np.uint16), expected[numbers].view(np.uint16))


def test_lanes_together(kit):
    lanes = kit.lanes
    x = np.arange(2 * lanes + 1, dtype=np.float32) - 3
    padded = np.concatenate([x, np.zeros(lanes - 1, np.float32)]).reshape(3, lanes)
    assert np.array_equal(apply(kit, 7, x), padded.sum(1).repeat(lanes)[: x.size])
    assert np.array_equal(apply(kit, 8, x), padded.max(1).repeat(lanes)[: x.size])
    signs = np.where(np.arange(x.size) % lanes < 3, 1, -1)
    assert np.array_equal(apply(kit, 9, x), x * signs)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_products(kit, dtype):
    """Odd sizes, both ways in which a right operand is stored, and strides that are neither."""
    rng = np.random.default_rng(0)
    for rows, depth, columns in ((1, 1, 1), (6, 2, 15), (13, 7, 131), (4, 64, 64), (6, 129, 131), (11, 129, 16)):
        a = rng.standard_normal((rows, depth)).astype(dtype)
        whole = rng.standard_normal((2 * depth, 2 * columns)).astype(dtype)
        for b in (whole[:depth, :columns], np.asfortranarray(whole[:depth, :columns]), whole[::2, ::2]):
            y = np.full((rows, columns), np.nan, np.float32)
            group = kit.matmul(a, b, [stride // b.itemsize for stride in b.strides], y)
            expected = a.astype(np.float64) @ b.astype(np.float64)
            size = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
            assert (np.abs(y - expected) <= 1e-6 * size).all(), (rows, depth, columns, b.strides)
            assert group in (1, 2)


@pytest.mark.parametrize(("dtype", "group"), [(ml_dtypes.bfloat16, 2), (np.float32, 1), (np.float16, 1)])
def test_dot_products_are_used_where_there_are_any(kit, request, dtype, group):
    one, y = np.ones((1, 1), dtype), np.empty((1, 1), np.float32)
    found = kit.matmul(one, one, [1, 1], y)
    has_them = request.node.callspec.params["kit"].endswith("bf16")
    assert found == (group if has_them else 1) and y[0, 0] == 1
