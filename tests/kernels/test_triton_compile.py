"""Every Triton kernel compiles for four GPUs, none of which is here: no spills, wide loads, tensor cores where it
multiplies matrices. And what would be wrong is found.

For one GPU it is compiled in all its configurations, for the others in the first of each call: what sets GPUs apart,
their instructions, shows in any configuration, and the registers of a thread and the width of its loads are the same on
all NVIDIA GPUs, while gfx942 has more registers. `kernel-lab compile-check` compiles everything.
"""

from pathlib import Path

import pytest
from triton_support import CATALOG, KERNELS, NAMES, needs_triton

from autoresearch_lab.catalog import Kernel
from autoresearch_lab.compile_check import ARCHITECTURES, compile_check
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import Root

pytestmark = needs_triton
# Where all configurations are compiled: where the project is measured; of a kernel with its own there, elsewhere too.
WHOLE = {"windowed_attention": ("sm_80", "sm_90")}


def check(kernel: Kernel, folder: Path, arch: tuple[str, ...], first_only: bool = True):
    return compile_check(kernel, CATALOG[kernel.target], arch, Lab(Root(folder)), first_only=first_only)


@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_kernel_compiles_without_spills_and_with_wide_loads(kernel, tmp_path):
    whole = WHOLE.get(kernel.target, ("sm_90",))
    rest = tuple(arch for arch in ARCHITECTURES if arch not in whole)
    records = [check(kernel, tmp_path, whole, first_only=False), check(kernel, tmp_path, rest)]
    rows = [row for record in records for row in record.results.kernels]
    assert [f"{row.arch} {row.kernel}: {row.problems}" for row in rows if row.problems] == []
    assert {row.arch for row in rows} == set(ARCHITECTURES)
    for record in records:
        assert record.kind == "compile" and record.results.ok and record.device is None
    if CATALOG[kernel.target].differentiable:
        launched = {(row.kernel, str(row.config)) for row in rows}
        assert len(launched) > 1 or kernel.target == "rope", "backward launches nothing"


@pytest.mark.parametrize("target", ["relu_squared", "rms_norm"])
def test_amds_next_gpu_is_compiled_for_as_well(target, tmp_path):
    """Of 64 threads per wave as gfx942, and with copies to shared memory of its own."""
    kernel = next(kernel for kernel in KERNELS if kernel.target == target)
    record = check(kernel, tmp_path, ("gfx950",))
    assert record.results.ok and {row.wide for row in record.results.kernels} == {8}


def planted(tmp_path: Path, target: str, *changes: tuple[str, str]) -> Kernel:
    """The catalogue's kernel with some of its text exchanged."""
    text = next(kernel for kernel in KERNELS if kernel.target == target).path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "kernels" / "planted.py"
    path.parent.mkdir()
    path.write_text(text)
    return Kernel(target, "planted", "torch", ("cuda",), "candidate", "triton", path)


def test_a_load_that_is_not_aligned_any_more_is_found(tmp_path):
    record = check(planted(tmp_path, "relu_squared", ("tl.load(x + place, mask)", "tl.load(x + place + 1, mask)")),
                   tmp_path, ("sm_90", "gfx942"))  # fmt: skip
    square, backward = (row for row in record.results.kernels if row.arch == "sm_90")
    assert not record.results.ok
    assert square.vector_share == 0.0 and square.load_widths == {"2": 8}
    assert "only 0% of its loads are 16 bytes wide" in square.problems[0]
    assert "only 50% of its loads" in backward.problems[0]
    assert all(row.problems for row in record.results.kernels if row.arch == "gfx942")


def test_a_tile_too_large_for_the_registers_is_found(tmp_path):
    changes = ("((1024, 4),", "((65536, 4),"), ("(4096, 512), (4096, 128)", "(4096, 16384),")
    record = check(planted(tmp_path, "rms_norm", *changes), tmp_path, ("sm_90",))
    assert not record.results.ok
    assert all("spills" in row.problems[0] for row in record.results.kernels)


def test_what_does_not_compile_is_told_in_words(tmp_path):
    kernel = planted(tmp_path, "relu_squared", ("values * values)", "values * nonsense)"))
    record = check(kernel, tmp_path, ("sm_90",))
    problems = [row.problems for row in record.results.kernels]
    assert "does not compile" in problems[0][0] and "nonsense" in problems[0][0]
    assert problems[1] == []
