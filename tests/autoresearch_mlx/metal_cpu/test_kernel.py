"""The callable: MLX's call, arrays of MLX and NumPy, errors, compilers, the portable fallback."""

import os
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from autoresearch_common import compiler as system_compiler
from autoresearch_mlx import metal_cpu
from autoresearch_mlx.metal_cpu import build
from autoresearch_mlx.metal_cpu.launch import launch
from autoresearch_mlx.metal_cpu.run import _arguments

DOUBLE = "uint i = thread_position_in_grid.x; y[i] = x[i] + x[i];"
needs_compiler = pytest.mark.skipif(not metal_cpu.available(), reason="no C++ compiler for Metal kernels on the CPU")


def call(kernel, x, **changes):
    arguments = {
        "inputs": [x], "output_shapes": [x.shape], "output_dtypes": [x.dtype], "grid": (x.size, 1, 1),
        "threadgroup": (64, 1, 1),
    }  # fmt: skip
    return kernel(**(arguments | changes))


def double(**options):
    return metal_cpu.metal_kernel("double", ["x"], ["y"], DOUBLE, **options)


@needs_compiler
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint16, np.int32, np.int64, np.uint64]
)
def test_element_types(dtype):
    x = np.arange(50).astype(dtype)
    kernel = double()
    (y,) = call(kernel, x)
    assert y.dtype == x.dtype and np.array_equal(y, x + x) and kernel.report.ok
    assert isinstance(y, np.ndarray)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "bool_"])
def test_arrays_of_mlx(dtype):
    mx = pytest.importorskip("mlx.core", reason="MLX is not installed")
    dtype = getattr(mx, dtype)
    x = (mx.arange(48).reshape(6, 8) % 2).astype(dtype)[::2].T
    source = """
        uint i = thread_position_in_grid.x;
        y[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)] + (T)0;
    """
    kernel = metal_cpu.metal_kernel("strided", ["x"], ["y"], source, ensure_row_contiguous=False, check=True)
    (y,) = call(kernel, x, template=[("T", dtype)])
    assert isinstance(y, mx.array) and y.dtype == dtype and y.shape == x.shape
    assert mx.array_equal(y, x).item()


@needs_compiler
def test_differentiates_inside_a_custom_function():
    mx = pytest.importorskip("mlx.core", reason="MLX is not installed")
    square = metal_cpu.metal_kernel(
        "square", ["x"], ["y"], "uint i = thread_position_in_grid.x; T v = max(x[i], T(0)); y[i] = v * v;"
    )
    slope = metal_cpu.metal_kernel(
        "slope", ["x", "g"], ["y"], "uint i = thread_position_in_grid.x; y[i] = T(2) * max(x[i], T(0)) * g[i];"
    )

    @mx.custom_function
    def relu_squared(x):
        return call(square, x, template=[("T", x.dtype)])[0]

    @relu_squared.vjp
    def _(x, cotangent, output):
        return call(slope, x, inputs=[x, cotangent], template=[("T", x.dtype)])[0]

    x = mx.array(np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4))
    weights = mx.arange(12).reshape(3, 4).astype(mx.float32)
    value, gradient = mx.value_and_grad(lambda v: (relu_squared(v * 2) * weights).sum())(x)
    expected, known = mx.value_and_grad(lambda v: (mx.square(mx.maximum(v * 2, 0)) * weights).sum())(x)
    assert mx.allclose(value, expected).item() and mx.allclose(gradient, known).item()


@needs_compiler
def test_inputs_small_and_without_axes():
    source = """
        y[0] = a + b[2] + (flag ? 1 : 0) + n + c[8]; y[1] = b_shape[0]; y[2] = b_ndim; (void)thread_position_in_grid;
    """
    kernel = metal_cpu.metal_kernel("mixed", ["a", "b", "flag", "n", "c"], ["y"], source)
    inputs = [7.5, np.array([1, 2, 3]), True, 3, np.arange(9, dtype=np.float32)]
    (y,) = kernel(
        inputs=inputs, output_shapes=[(3,)], output_dtypes=[np.float32], grid=(1, 1, 1), threadgroup=(1, 1, 1)
    )
    assert y.tolist() == [22.5, 3, 1]
    metal = kernel.generated(inputs, [np.float32]).metal
    for expected in (
        "const constant float& a [[buffer(0)]]", "const constant int64_t* b [[buffer(1)]]",
        "const constant int* b_shape [[buffer(2)]]", "const constant int& b_ndim [[buffer(3)]]",
        "const constant bool& flag", "const constant int32_t& n", "const device float* c",
        "device float* y [[buffer(7)]]",
    ):  # fmt: skip
        assert expected in metal
    assert "c_shape" not in metal and "b_strides" not in metal


@needs_compiler
def test_attributes_on_a_ragged_grid():
    """A grid of 5 x 3 x 2 in threadgroups of 4 x 2 x 1, and a threadgroup larger than the grid, which is clamped."""
    names = [
        "threads_per_threadgroup", "dispatch_threads_per_threadgroup", "threadgroups_per_grid", "threads_per_grid",
        "threadgroup_position_in_grid", "thread_position_in_threadgroup", "thread_position_in_grid",
    ]  # fmt: skip
    single = ["thread_index_in_threadgroup", "simdgroups_per_threadgroup", "threads_per_simdgroup"]
    source = "uint i = (thread_position_in_grid.z * 3 + thread_position_in_grid.y) * 5 + thread_position_in_grid.x;"
    source += "".join(f"y[i * 24 + {3 * k}] = {n}.x; y[i * 24 + {3 * k + 1}] = {n}.y; y[i * 24 + {3 * k + 2}] = {n}.z;"
                      for k, n in enumerate(names))  # fmt: skip
    source += "".join(f"y[i * 24 + {21 + k}] = {n};" for k, n in enumerate(single))
    kernel = metal_cpu.metal_kernel("attributes", [], ["y"], source, check=True)
    arguments = {"inputs": [], "output_shapes": [(2, 3, 5, 8, 3)], "output_dtypes": [np.uint32], "grid": (5, 3, 2)}
    (y,) = kernel(threadgroup=(4, 2, 1), **arguments)
    corner = y[1, 2, 4].tolist()
    assert corner[:7] == [[1, 1, 1], [4, 2, 1], [2, 2, 2], [5, 3, 2], [1, 1, 1], [0, 0, 0], [4, 2, 1]]
    assert y[0, 1, 3].tolist()[:1] == [[4, 2, 1]] and y[0, 1, 3, 7].tolist() == [7, 1, 32]
    (y,) = kernel(threadgroup=(16, 16, 4), **arguments)
    assert y[1, 2, 4].tolist()[:2] == [[5, 3, 2], [5, 3, 2]] and y[1, 2, 4, 7].tolist() == [29, 1, 32]


@needs_compiler
def test_templates_make_kernels_of_their_own():
    source = "uint i = thread_position_in_grid.x; y[i] = FLIP ? T(-x[i]) : T(x[i] * N);"
    kernel = metal_cpu.metal_kernel("template", ["x"], ["y"], source)
    x = np.arange(10, dtype=np.float32)
    (y,) = call(kernel, x, template=[("T", np.float16), ("N", -3), ("FLIP", False)])
    assert np.array_equal(y, x * -3)
    (y,) = call(kernel, x, template=[("T", np.float32), ("N", 1), ("FLIP", True)])
    assert np.array_equal(y, -x)
    with pytest.raises(TypeError, match="a template value is a dtype, an int or a bool"):
        call(kernel, x, template=[("T", 1.5)])


@needs_compiler
def test_verbose_prints_what_mlx_would_generate(capsys):
    call(double(), np.ones(9, np.float16), verbose=True, template=[("T", np.float32)])
    printed = capsys.readouterr().out
    assert "[[kernel]] void custom_kernel_double_float_float16_t_float16_t(" in printed
    assert "uint3 thread_position_in_grid [[thread_position_in_grid]]) {" in printed
    assert 'host_name("custom_kernel_double_float_float16_t_float16_t")' in printed


def test_arguments_that_mlx_refuses():
    x = np.ones(8, np.float32)
    with pytest.raises(ValueError, match="Expected `inputs` to have size 1 but got 2"):
        call(double(), x, inputs=[x, x])
    with pytest.raises(ValueError, match="Expected `output_shapes` to have size 1 but got 0"):
        call(double(), x, output_shapes=[])
    with pytest.raises(ValueError, match="Thread group size"):
        call(double(), x, threadgroup=(64, 32, 1))
    with pytest.raises(ValueError, match="`grid` must be three positive numbers"):
        call(double(), x, grid=(8, 0, 1))
    with pytest.raises(ValueError, match="math_mode"):
        double(compile_options={"math_mode": "precise"})
    with pytest.raises(ValueError, match="Unknown compile option"):
        double(compile_options={"unknown": "value"})
    with pytest.raises(ValueError, match="at least one output"):
        metal_cpu.metal_kernel("none", ["x"], [], DOUBLE)
    with pytest.raises(TypeError, match="kernels take no arrays of complex64"):
        call(double(), x.astype(np.complex64))


@needs_compiler
def test_a_fault_is_raised_with_its_findings():
    kernel = metal_cpu.metal_kernel("over", ["x"], ["y"], DOUBLE.replace("x[i];", "x[i + 1];"))
    with pytest.raises(
        metal_cpu.KernelFault, match=r"kernel over: out-of-bounds-read in source line 1: .*x\[64\]"
    ) as fault:
        call(kernel, np.ones(64, np.float32))
    assert fault.value.findings == kernel.report.failures and "FAILED" in str(kernel.report)


@needs_compiler
def test_compile_errors_name_the_line():
    with pytest.raises(metal_cpu.CompileFailed, match="source, line 2: .*undeclared_name") as failure:
        call(metal_cpu.metal_kernel("bad", ["x"], ["y"], "\ny[0] = undeclared_name;"), np.ones(9, np.float32))
    assert "undeclared_name" in failure.value.output
    header = "\n\ninline float f(float v) { return v +; }"
    with pytest.raises(metal_cpu.CompileFailed, match="header, line 3"):
        call(metal_cpu.metal_kernel("bad", ["x"], ["y"], "y[0] = f(x[0]);", header), np.ones(9, np.float32))
    with pytest.raises(metal_cpu.CompileFailed, match="ambiguous"):
        call(metal_cpu.metal_kernel("bad", ["x"], ["y"], "y[0] = max(x[0], 1);"), np.ones(9, np.float32))
    with pytest.raises(metal_cpu.CompileFailed, match="Metal has atomic int, uint, bool, float and ulong only"):
        call(
            metal_cpu.metal_kernel("bad", ["x"], ["y"], "(void)y[0].value;", atomic_outputs=True),
            np.ones(9, np.float16),
        )


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    for cached in (system_compiler.find, build._compiler):
        cached.cache_clear()
    try:
        assert not metal_cpu.available()
        with pytest.raises(metal_cpu.CompilerMissing, match="no C\\+\\+ compiler .*cannot be run on the CPU"):
            call(double(), np.ones(64, np.float32))
    finally:
        monkeypatch.undo()
        for cached in (system_compiler.find, build._compiler):
            cached.cache_clear()


@needs_compiler
@pytest.mark.parametrize("define", ["MSL_UCONTEXT"])
def test_portable_switching_gives_the_same(define, rng):
    """The fallback for processors without a switch of their own."""
    source = """
        threadgroup float part[32];
        uint t = thread_index_in_threadgroup;
        float s = simd_sum(x[thread_position_in_grid.x]);
        if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = s;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[thread_position_in_grid.x] = part[0] + part[1] + t;
    """
    x = rng.integers(0, 9, 64).astype(np.float32)
    kernel = metal_cpu.metal_kernel("sum", ["x"], ["y"], source)
    (expected,) = call(kernel, x)
    unit = kernel.generated([x], [np.float32])
    from autoresearch_mlx.metal_cpu.arrays import laid_out

    y = np.empty_like(x)
    path = build.shared_object(unit.code, False, defines=(define,))
    outcome = launch(path, _arguments(unit, [laid_out(x, True)], [y], False), (64, 1, 1), (64, 1, 1), fibers=True)
    assert np.array_equal(y, expected) and not outcome.findings


def clang_has_float16():
    """Whether Metal kernels can be built with clang++: before version 15 it has no _Float16 on x86-64."""
    if not shutil.which("clang++"):
        return False
    command = ["clang++", "-x", "c++", "-fsyntax-only", "-"]
    return not subprocess.run(command, input="_Float16 x;", capture_output=True, text=True).returncode


@needs_compiler
@pytest.mark.skipif(not clang_has_float16(), reason="clang++ is not installed, or has no _Float16 (version 15 has it)")
def test_with_clang(tmp_path):
    """The other compiler, in a process of its own: both builds of a kernel with a race and of one without."""
    script = """
import numpy as np
from autoresearch_mlx import metal_cpu
x = np.arange(64, dtype=np.float16)
for check in (False, True):
    for barrier in ("threadgroup_barrier(mem_flags::mem_threadgroup);", ""):
        source = "threadgroup half s[64]; uint i = thread_position_in_grid.x; s[i] = x[i];"
        source += barrier + "y[i] = s[63 - i];"
        k = metal_cpu.metal_kernel("flip", ["x"], ["y"], source, check=check, strict=False)
        y, = k(inputs=[x], output_shapes=[(64,)], output_dtypes=[x.dtype], grid=(64, 1, 1), threadgroup=(64, 1, 1))
        print(int(check), bool(barrier), k.report.ok, np.array_equal(y, x[::-1]))
"""
    environment = os.environ | {"CXX": "clang++", "AUTORESEARCH_CACHE": str(tmp_path)}
    root = str(build.INCLUDE.parents[2])
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=root, capture_output=True, text=True)
    lines = done.stdout.split("\n")
    assert lines[0] == "0 True True True" and lines[2] == "1 True True True", done.stderr
    assert lines[3].startswith("1 False False")


@needs_compiler
def test_works_without_mlx(tmp_path):
    """Importing and running brings in no array framework."""
    script = """
import sys
import numpy as np
from autoresearch_mlx import metal_cpu
k = metal_cpu.metal_kernel("double", ["x"], ["y"], "uint i = thread_position_in_grid.x; y[i] = x[i] + x[i];")
k(inputs=[np.ones(9, np.float32)], output_shapes=[(9,)], output_dtypes=[np.float32], grid=(9, 1, 1),
  threadgroup=(9, 1, 1))
print(sorted({"mlx", "mlx.core", "torch"} & set(sys.modules)))
"""
    root = str(build.INCLUDE.parents[2])
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
