"""C++ kernels taken apart: loops, spills, width and elements in real objects and in text; the record of a real call."""

import json
import shutil
import subprocess
from collections import Counter

import pytest

from autoresearch_common import compiler
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import main
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.trace import deep, instructions, machine_code, objdump, perf
from autoresearch_lab.trace.loops import loops_of

SOURCE = """
#include <cstdint>
typedef float Four __attribute__((vector_size(16)));
template <int N>
__attribute__((always_inline)) inline void sums(const Four* x, const Four* y, Four* out, int64_t count) {
    Four sums[N] = {};
    for (int64_t i = 0; i < count; ++i, y += N) {
#pragma GCC unroll 64
        for (int r = 0; r < N; ++r) sums[r] += x[i] * y[r];
    }
    for (int r = 0; r < N; ++r) out[r] = sums[r];
}
extern "C" void crowded(const Four* x, const Four* y, Four* out, int64_t count) { sums<64>(x, y, out, count); }
extern "C" void roomy(const Four* x, const Four* y, Four* out, int64_t count) { sums<4>(x, y, out, count); }
extern "C" void scale(float* __restrict x, int64_t count) {
    for (int64_t i = 0; i < count; ++i) x[i] = x[i] * 3.0f;
}
"""
ARM = """
0000000000000040 <dots>:
/k/kernel.cpp:7
  40:\tmov\tx5, #0x0                   \t// #0
  44:\tldr\tq1, [x1], #16
  48:\tldp\tq2, q3, [x2]
  4c:\tadd\tx2, x2, #0x20
  50:\tbfdot\tv0.4s, v1.8h, v2.8h
  54:\tfmla\tv4.4s, v1.4s, v3.4s
/k/kernel.cpp:9 (discriminator 2)
  58:\tstr\tq0, [sp, #32]
  5c:\tldr\tx9, [sp, #8]
  60:\tsubs\tx3, x3, #0x1
  64:\tb.ne\t44 <dots+0x4>  // b.any
  68:\tret
"""
needs_tools = pytest.mark.skipif(
    not shutil.which("objdump") or not any(map(shutil.which, compiler.COMPILERS)), reason="no objdump or no compiler"
)


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "kernel.cpp").write_text(SOURCE)
    flags = ("-O3", "-g", "-fPIC", "-shared", str(folder / "kernel.cpp"), "-o", str(folder / "kernel.so"))
    subprocess.run([*compiler.find()[0], *flags], check=True)
    return objdump.disassemble(shutil.which("objdump"), folder / "kernel.so")


def widest(code, name):
    return machine_code.described({name: code[name]}, Counter())[0]


@needs_tools
def test_a_loop_that_spills_is_told_from_one_that_does_not(code):
    crowded, roomy = widest(code, "crowded"), widest(code, "roomy")
    assert crowded.vector_loads > 16 and crowded.vector_stores > 16
    assert (roomy.vector_loads, roomy.vector_stores, roomy.loads, roomy.stores) == (0, 0, 0, 0)
    assert crowded.bits == roomy.bits == 128 and crowded.depth == roomy.depth == 0
    assert crowded.arithmetic >= 64 and roomy.arithmetic <= 8 and roomy.instructions < 20
    assert roomy.file == "kernel.cpp" and 6 <= roomy.lines[0] <= roomy.lines[1] <= 9


@needs_tools
def test_instructions_per_element(code):
    """One vector of four is read, multiplied and written, however often the loop is unrolled."""
    loop = widest(code, "scale")
    assert loop.elements and loop.elements % 4 == 0 and 0.75 < loop.instructions / loop.elements < 2.1


def test_arm64_in_text():
    body = objdump.parse(ARM)["dots"]
    (loop,) = loops_of("dots", body)
    row = machine_code.describe(loop, instructions.has_frame_pointer(body), None)
    assert (row.instructions, row.arithmetic, row.fma, row.dot, row.bits) == (9, 2, 1, 1, 128)
    assert (row.vector_stores, row.vector_loads, row.stores, row.loads) == (1, 0, 0, 1)
    assert row.elements == 4 and row.lines == (7, 9)


@pytest.mark.parametrize(
    ("text", "framed", "expected"),
    [
        ("vmovaps ZMMWORD PTR [rsp+0x40],zmm1", False, (False, True)),
        ("vfmadd231ps zmm0,zmm1,ZMMWORD PTR [rbp-0x70]", True, (True, False)),
        ("vfmadd231ps zmm0,zmm1,ZMMWORD PTR [rbp-0x70]", False, (False, False)),
        ("add QWORD PTR [rsp+0x8],0x40", False, (True, True)),
        ("cmp QWORD PTR [rsp],rax", False, (True, False)),
        ("lea rax,[rsp+0x40]", False, (False, False)),
        ("vmovups zmm0,ZMMWORD PTR [rax+rsp*1]", False, (False, False)),
    ],
)
def test_what_touches_the_stack_frame(text, framed, expected):
    mnemonic, _, operands = text.partition(" ")
    assert instructions.stack_access(objdump.Instruction(0, mnemonic, operands), framed) == expected


def test_a_rare_part_behind_the_end_belongs_to_its_loop():
    """The jump back from there is no loop of its own."""
    text = "0 <f>:\n 0:\tnop\n 4:\tcmp rax,rbx\n 8:\tja 20 <f+0x20>\n c:\tinc rax\n 10:\tjne 4 <f+0x4>\n 14:\tret\n"
    (loop,) = loops_of("f", objdump.parse(text + " 20:\tvaddss xmm0,xmm0,xmm1\n 24:\tjmp c <f+0xc>\n")["f"])
    assert [one.address for one in loop.instructions] == [4, 8, 12, 16, 32, 36]


def test_samples_are_shared_out_to_loops_and_lines(tmp_path):
    (tmp_path / "kernel.cpp").write_text("\n" * 8 + "  nine();\n")
    body = objdump.parse(ARM)
    counts = Counter({("dots", 0x10): 30, ("dots", 0x18): 60, ("dots", 0x28): 10})
    (loop,) = machine_code.described(body, counts)
    assert loop.share == 0.9
    lines = machine_code.lines_of(body, counts, tmp_path / "kernel.cpp")
    assert [(line.line, line.share) for line in lines] == [(9, 0.7), (7, 0.3)] and lines[0].text == "nine();"


@pytest.fixture
def call_shape():
    """Large enough to be found by a sampling profiler."""
    return (4096, 256)


@pytest.fixture
def measured(root, captured, context, monkeypatch):
    monkeypatch.setattr(deep, "ensure_workloads", lambda *_, **__: captured)
    ledger = Ledger(root.ledger)

    def measure(name="cpp_fused"):
        target = load_catalog(root)["rms_norm"]
        program = deep.require(context.engine)
        return deep.deep_profile(Lab.of(context, root, ledger), target, target.kernel(name, "torch"), program)

    return measure


@needs_tools
def test_without_perf_the_record_says_so(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(perf, "PROGRAM", "perf-that-is-not-here")
    record = measured()
    assert record.kind == "trace" and record.settings.tool == "objdump" and record.settings.perf is None
    found = record.results
    assert found.unwatched == "perf is not installed: no time by line" and not found.lines and found.call_ms > 0
    assert any(loop.file == "cpp_fused.cpp" and loop.bits > 32 for loop in found.loops)
    deep.save(record, tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["results"]["loops"]


@needs_tools
def test_perf_finds_where_the_time_goes(measured, monkeypatch, tmp_path):
    if perf.find(tmp_path)[0] is None:
        pytest.skip("perf may not sample here")
    monkeypatch.setattr(machine_code, "REPEAT_SECONDS", 0.3)
    found = measured().results
    assert found.unwatched is None and found.own_samples > 0
    assert found.loops[0].share > 0 and sum(line.share for line in found.lines) <= 1.0001
    assert any(line.file == "cpp_fused.cpp" and line.text for line in found.lines)


def test_a_perf_that_may_not_sample_is_named(stand_in, tmp_path):
    stand_in("perf").set(silent=255)
    program, why = perf.find(tmp_path)
    assert program is None and why.startswith("perf may not sample here: ") and why.endswith("no time by line")


@needs_tools
def test_kernels_without_machine_code_and_objects_that_are_none(measured, tmp_path):
    with pytest.raises(LabError, match="on a CPU it takes C\\+\\+ kernels apart; torch_eager has no torch_eager.cpp"):
        measured("torch_eager")
    (tmp_path / "none.so").write_text("no object")
    with pytest.raises(LabFailure, match="objdump"):
        objdump.disassemble(shutil.which("objdump"), tmp_path / "none.so")


def test_without_objdump_it_is_one_line(root, tmp_path, capsys, no_tools):
    words = ["deep-profile", "rms_norm=cpp_fused", "--output", str(tmp_path / "o.json")]
    assert main(["--root", str(root.path), "--engine", "cpu", *words]) == 2
    told = capsys.readouterr().err
    assert "objdump is not on this machine" in told and len(told.strip().splitlines()) == 1
