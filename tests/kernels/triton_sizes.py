"""Run by test_triton_sizes.py, in a process that executes no launch; not collected on its own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from triton_support import CATALOG, KERNELS, NAMES

from autoresearch_common import workload as w
from autoresearch_lab.catalog import Kernel
from benchmarks.gpu import floors
from benchmarks.gpu.intervals import read
from benchmarks.gpu.upstream import ARCH, Pretence, beyond, pretend


@pytest.fixture(scope="module")
def pretence() -> Pretence:
    return pretend()


@pytest.fixture(scope="module")
def calls(pretence):
    return pretence.calls(CATALOG)


def narrow(pretence: Pretence, kernels: list[Kernel], call) -> list[str]:
    """What may leave its 32 bits in a call whose largest array has 2^32 elements or more."""
    both = pretence.work(kernels, beyond(call)).values()
    launches = {floors.launch_key(one): one for work in both for one in work.launches}
    assert launches
    return [line for one in launches.values() for line in read(one, ARCH).narrow]


@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_no_integer_leaves_its_32_bits_beyond_2_to_the_31(kernel, pretence, calls):
    found = {call["target"]: narrow(pretence, KERNELS, call) for call in calls[kernel.target]}
    assert found == {kernel.target: []}


def test_the_calls_are_those_of_the_data_centre(calls):
    """And the logits of one have 2^31 elements."""
    assert set(calls) == set(CATALOG)
    (logits,) = (w.arrays(call)[0] for call in calls["softcap_cross_entropy"])
    assert logits["shape"] == [262_144, 8192] and w.size(logits) == 2**31
    assert {call["calls_per_step"] for call in calls["loss_head"]} == {2}


@pytest.mark.parametrize(
    ("target", "old", "new"),
    [
        ("softcap_cross_entropy", "row = row.to(tl.int64)", "row = row"),
        ("rms_norm", "row = row.to(tl.int64)", "row = row"),
        ("relu_squared", "tl.program_id(0).to(tl.int64) * TILE", "tl.program_id(0) * TILE"),
        ("mlp", "i[:, None].to(tl.int64), j[None, :].to(tl.int64)", "i[:, None], j[None, :]"),
        ("windowed_attention", "(pair // heads).to(tl.int64)", "(pair // heads)"),
    ],
)
def test_a_planted_32_bit_offset_is_found(target, old, new, tmp_path, pretence, calls):
    text = next(kernel for kernel in KERNELS if kernel.target == target).path.read_text()
    assert old in text
    path = tmp_path / "planted.py"
    path.write_text(text.replace(old, new))
    kernels = [k for k in KERNELS if k.target != target]
    kernels.append(Kernel(target, "planted", "torch", ("cuda",), "candidate", "triton", path))
    found = narrow(pretence, kernels, calls[target][0])
    assert found and all("i32" in line for line in found)


def test_the_page_is_what_the_script_writes(pretence):
    """Its arithmetic. What the compiler makes of the kernels is that of these kernels."""
    written = (Path(floors.__file__).parents[2] / floors.PAGE).read_text()
    assert written.startswith(floors.page(pretence, CATALOG, compiled=False).rstrip("\n"))
    assert written.rstrip().endswith(floors.stamp(CATALOG))
