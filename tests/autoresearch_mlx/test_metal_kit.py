"""The kit of Metal kernel files: how sources are read, empty launches, functions with a gradient of their own."""

import pytest

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")

from autoresearch_lab.catalog import load_catalog  # noqa: E402
from autoresearch_lab.paths import Root  # noqa: E402
from autoresearch_mlx import metal_cpu, metal_kit  # noqa: E402
from autoresearch_mlx.metal_cpu import tokens  # noqa: E402
from autoresearch_mlx.probe.metal_on_cpu import metal_on_cpu  # noqa: E402

SOURCE = """// Documentation.
inline float twice(float x) { return 2.0f * x; }
//! kernel double(x) -> (y)
y[thread_position_in_grid.x] = twice(x[thread_position_in_grid.x]);
//! kernel pick(x, i) -> (y, z) strided atomic
uint place = 1;
"""
SOURCES = [
    kernel.path.with_suffix(".metal")
    for target in load_catalog(Root()).values()
    for kernel in target.kernels
    if kernel.language == "metal"
]
needs_compiler = pytest.mark.skipif(not metal_cpu.available(), reason="no C++ compiler for Metal kernels on the CPU")


def test_a_source_is_split_into_header_and_bodies_that_keep_their_lines():
    header, found = metal_kit.parse(SOURCE)
    assert "twice" in header and "thread_position" not in header
    inputs, outputs, options, body = found["double"]
    assert (inputs, outputs, options) == (["x"], ["y"], [])
    assert body.splitlines()[3] == SOURCE.splitlines()[3] and not "".join(body.splitlines()[:3])
    assert found["pick"][:3] == (["x", "i"], ["y", "z"], ["strided", "atomic"])


@pytest.mark.parametrize("line", ["//! kernel double x -> y", "//! kernel d(x) -> (y) fast", "//!kernel d(x) -> (y)"])
def test_a_malformed_declaration_is_refused(line):
    with pytest.raises(ValueError, match="line 2"):
        metal_kit.parse(f"\n{line}\n")


def test_a_file_without_kernels_is_refused(tmp_path):
    (tmp_path / "k.metal").write_text("// nothing\n")
    with pytest.raises(ValueError, match="no kernel"):
        metal_kit.kernels(str(tmp_path / "k.py"))


@needs_compiler
def test_kernels_launch_and_an_empty_grid_launches_nothing(tmp_path):
    (tmp_path / "k.metal").write_text(SOURCE)
    with metal_on_cpu() as stand_in:
        double = metal_kit.kernels(str(tmp_path / "k.py")).double
    (y,) = double(mx.array([1.0, 2.0, 3.0]), outputs=[((3,), mx.float32)], **metal_kit.flat_launch(3))
    assert y.tolist() == [2.0, 4.0, 6.0] and stand_in.launches == {"checked": 1, "fast": 1}
    (y,) = double(mx.zeros((0,)), outputs=[((0, 2), mx.float32)], **metal_kit.flat_launch(0))
    assert y.shape == (0, 2) and stand_in.launches == {"checked": 1, "fast": 1}


@needs_compiler
def test_a_finding_of_the_checked_build_is_an_error(tmp_path):
    (tmp_path / "k.metal").write_text(SOURCE.replace("grid.x]);", "grid.x + 1]);"))
    with metal_on_cpu():
        double = metal_kit.kernels(str(tmp_path / "k.py")).double
    with pytest.raises(metal_cpu.KernelFault, match="out-of-bounds-read in source line 4"):
        double(mx.array([1.0, 2.0, 3.0]), outputs=[((3,), mx.float32)], **metal_kit.flat_launch(3))


@pytest.mark.skipif(mx.metal.is_available(), reason="Metal is here, so that kernels run")
def test_without_metal_and_without_a_stand_in_a_launch_fails(tmp_path):
    (tmp_path / "k.metal").write_text(SOURCE)
    double = metal_kit.kernels(str(tmp_path / "k.py")).double
    with pytest.raises(RuntimeError, match="Metal"):
        mx.eval(double(mx.array([1.0]), outputs=[((1,), mx.float32)], **metal_kit.flat_launch(1)))


def test_a_function_with_its_own_gradient_takes_constants_and_leaves_out_what_has_none():
    scaled = metal_kit.Differentiable(
        lambda x, y, factor: (x * y * factor, x), lambda arrays, g, outputs, factor: (g[0] * factor + g[1], None)
    )
    x, y = mx.array([1.0, 2.0]), mx.array([5.0, 5.0])
    outputs, gradients = mx.vjp(lambda x, y: scaled(x, y, factor=3.0), [x, y], [mx.ones(2), mx.ones(2)])
    assert outputs[0].tolist() == [15.0, 30.0]
    assert gradients[0].tolist() == [4.0, 4.0] and gradients[1].tolist() == [0.0, 0.0]


def test_launches_cover_rows_and_stay_within_what_metal_allows():
    for width in (1, 64, 128, 129, 4096, 8191):
        launch = metal_kit.row_launch(5, width)
        threads = launch["group"][0]
        assert launch["grid"] == (threads, 5, 1) and threads % metal_kit.SIMD == 0
        assert metal_kit.SIMD <= threads <= metal_kit.MOST_THREADS
    assert 0 in metal_kit.row_launch(5, 0)["grid"] and 0 in metal_kit.head_launch(0, 4)["grid"]
    assert metal_kit.rows_of(mx.zeros((2, 0, 7))).shape == (0, 7) and metal_kit.rows_of(mx.zeros(())).shape == (1, 1)


@pytest.mark.parametrize("path", SOURCES, ids=[path.parent.name for path in SOURCES])
def test_bodies_take_no_pointers_into_inputs(path):
    """An input of fewer than eight elements is in the constant address space: `const device T* p = x` would not compile
    for it, and C++ cannot tell."""
    for name, (*_, body) in metal_kit.parse(path.read_text())[1].items():
        code = " ".join(token.text for token in tokens.Tokens(body, "source").list if token.kind != "space")
        assert "const device" not in code and "device const" not in code, f"{name}: index the array, or use auto"
