"""Building and loading native sources: cache, errors, floating-point environment, OpenMP runtime."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from autoresearch_common import compiler, instruction_set, sanitizer
from autoresearch_cuda import native
from autoresearch_trainer.kernel_files import KERNELS_ROOT

SOURCE = """
#include "native.h"
extern "C" int scale(const float* x, float* y, int64_t count, float factor) {
#pragma omp parallel for
    for (int64_t i = 0; i < count; ++i) y[i] = x[i] * factor;
    return 0;
}
#ifdef _OPENMP
extern "C" int omp_get_max_threads(void);
extern "C" int threads() { return omp_get_max_threads(); }
#else
extern "C" int threads() { return 1; }
#endif
"""
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, compiler.COMPILERS)), reason="no C++ compiler")
pytestmark = needs_compiler


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "native"


@pytest.fixture
def kernel_file(tmp_path):
    python = tmp_path / "kernel.py"
    python.write_text(f"# {os.urandom(8).hex()}\n")
    python.with_suffix(".cpp").write_text(SOURCE)
    return python


def test_a_sanitized_build_is_another_one(kernel_file, cache_folder, monkeypatch):
    if not sanitizer.runtime():
        pytest.skip("the compiler has no sanitizer")
    source = kernel_file.with_suffix(".cpp")
    plain = native.build(source)
    monkeypatch.setenv(sanitizer.VARIABLE, sanitizer.ADDRESS)
    checked = native.build(source)
    assert checked != plain and b"__asan_report_store" in checked.read_bytes()


def test_builds_once_and_calls(kernel_file, cache_folder):
    library = native.load(kernel_file)
    scale = library.function("scale", native.POINTER, native.POINTER, native.INTEGER, native.REAL)
    x, y = torch.arange(5.0), torch.empty(5)
    assert scale(x.data_ptr(), y.data_ptr(), 5, 2.0) == 0
    assert torch.equal(y, 2 * x)
    (built,) = cache_folder.glob("*.so")
    before = built.stat().st_mtime_ns
    assert native.load(kernel_file) is library
    assert native.build(kernel_file.with_suffix(".cpp")) == built == library.path
    assert built.stat().st_mtime_ns == before
    assert not list(cache_folder.glob("build-*"))


def test_another_content_is_another_library(kernel_file, cache_folder):
    first = native.load(kernel_file)
    kernel_file.with_suffix(".cpp").write_text(SOURCE.replace("x[i] * factor", "x[i] + factor"))
    second = native.load(kernel_file)
    assert first.namespace != second.namespace and first.path != second.path
    x, results = torch.ones(1), []
    for library in (first, second):
        y = torch.empty(1)
        scale = library.function("scale", native.POINTER, native.POINTER, native.INTEGER, native.REAL)
        scale(x.data_ptr(), y.data_ptr(), 1, 4.0)
        results.append(y.item())
    assert results == [4.0, 5.0]


def test_operator_of_the_same_content_is_defined_once(kernel_file, cache_folder):
    first, second = (
        native.load(kernel_file).operator("double(Tensor x) -> Tensor", lambda x: 2 * x, torch.empty_like)
        for _ in range(2)
    )
    assert first is second
    assert torch.equal(first(torch.ones(2)), torch.full((2,), 2.0))


def test_unwritable_cache_falls_back_to_a_temporary_folder(kernel_file, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(blocked))
    built = native.load(kernel_file).path
    assert built.is_file() and blocked.read_text() == "not a folder"


def test_processes_may_build_side_by_side(kernel_file, cache_folder):
    code = f"from autoresearch_cuda import native; print(native.load({str(kernel_file)!r}).path)"
    root = Path(native.__file__).resolve().parents[1]
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    paths = {process.communicate()[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    assert paths == {str(path) for path in cache_folder.glob("*.so")} and len(paths) == 1


def test_errors_are_one_clear_line(kernel_file, cache_folder, monkeypatch):
    with pytest.raises(native.NativeError, match="exports no function 'missing'"):
        native.load(kernel_file).function("missing")
    kernel_file.with_suffix(".cpp").write_text("int f() { return undeclared_name; }")
    with pytest.raises(native.CompileFailed, match=r"kernel.cpp: .*error.*undeclared_name") as failure:
        native.load(kernel_file)
    assert "\n" not in str(failure.value)
    with pytest.raises(native.NativeError, match="-ffast-math would change"):
        native.load(kernel_file, flags=["-ffast-math"])
    kernel_file.with_suffix(".cpp").unlink()
    with pytest.raises(native.NativeError, match="no native source"):
        native.load(kernel_file)


def test_missing_compiler_says_what_to_install(kernel_file, cache_folder, monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent/c++")
    compiler.find.cache_clear()
    try:
        with pytest.raises(native.CompilerMissing, match=r"no C\+\+ compiler \(CXX=/nonexistent/c\+\+\); install"):
            native.load(kernel_file)
    finally:
        compiler.find.cache_clear()


def test_threads_are_those_of_torch(kernel_file, cache_folder):
    threads = native.load(kernel_file).function("threads")
    if threads() == 1 and torch.get_num_threads() > 1:
        pytest.skip("built without OpenMP")
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert threads() == count
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-g++"), reason="needs aarch64-linux-gnu-g++")
@pytest.mark.parametrize("source", sorted(KERNELS_ROOT.glob("*/cpp_*.cpp")), ids=lambda path: path.parent.name)
def test_every_kernel_compiles_for_arm64(source, tmp_path):
    for each in instruction_set.known("aarch64"):
        flags = (*native.FLAGS, *each.compiler_flags, "-O1", "-Werror", "-fopenmp", f"-I{native.HEADERS}")
        compiler.run(["aarch64-linux-gnu-g++", *flags, "-c", str(source), "-o", str(tmp_path / "kernel.o")], each.name)


def test_sources_are_compiled_for_the_instruction_set_in_use(kernel_file, cache_folder, monkeypatch):
    """Each has a library and operators of its own; one that this processor has not is a clear error."""
    paths, namespaces = set(), set()
    for each in instruction_set.available():
        monkeypatch.setenv(instruction_set.VARIABLE, each.name)
        library = native.load(kernel_file)
        paths.add(library.path)
        namespaces.add(library.namespace)
    assert len(paths) == len(namespaces) == len(instruction_set.available())
    monkeypatch.setenv(instruction_set.VARIABLE, "mmx")
    with pytest.raises(native.NativeError, match="^AUTORESEARCH_INSTRUCTION_SET=mmx: this processor has "):
        native.load(kernel_file)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_one_openmp_runtime_in_the_process(kernel_file, cache_folder):
    native.load(kernel_file)
    maps = Path("/proc/self/maps").read_text().splitlines()
    runtimes = {line.split()[-1] for line in maps if "libgomp" in line or "libomp" in line or "libiomp" in line}
    if not any("torch" in path for path in runtimes):
        pytest.skip("torch carries no OpenMP runtime here")
    assert len(runtimes) == 1, runtimes


def test_loading_leaves_the_floating_point_environment(cache_folder):
    """Denormals survive, in torch and in NumPy, after every C++ kernel of the catalogue was loaded."""
    sources = sorted(KERNELS_ROOT.glob("*/cpp_*.py"))
    assert sources
    tiny = np.float32(1e-39)
    for source in sources:
        native.load(source)
    assert (torch.tensor([1e-30]) * 1e-9).item() > 0.0
    assert tiny * np.float32(0.5) > 0.0
