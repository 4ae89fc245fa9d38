"""The rewriter and the lint: what they change, what they leave alone, and what they stop at."""

import pytest

from autoresearch_mlx.metal_cpu import MetalRejects, SourceError, Unsupported, lint
from autoresearch_mlx.metal_cpu.rewrite import Rewriter


def body(text):
    return Rewriter().source(text)


def squeezed(text):
    return "".join(text.split())


def test_threadgroup_declarations_become_references():
    text = "threadgroup float a[32][8 + 1],\n b; // tile\nthreadgroup metal::vec<T, 4> c[N > 4 ? N : 4];\nint d;"
    rewriter = Rewriter()
    result = rewriter.source(text)
    assert rewriter.variables == ["a", "b", "c"]
    assert (
        'typedef float msl_variable_0[32][8 + 1]; msl_variable_0& a = msl_threadgroup<msl_variable_0>(0, "a");'
        in result
    )
    assert "typedef float msl_variable_1; msl_variable_1& b" in result
    assert "typedef metal::vec<T, 4> msl_variable_2[N > 4 ? N : 4];" in result
    assert result.count("\n") == text.count("\n") and result.split("\n")[3] == "int d;"


@pytest.mark.parametrize(
    "text",
    [
        "threadgroup float* p = tile + 3;",
        "const threadgroup T* p = tile;",
        "auto p = (threadgroup float4*)tile;",
        "auto& p = *reinterpret_cast<const threadgroup vec<T, 4>*>(tile);",
        "threadgroup float& first = tile[0];",
        "threadgroup float (*rows)[8] = tile;",
        "auto f = pointer<threadgroup float*>();",
    ],
)
def test_threadgroup_is_dropped_from_pointers(text):
    assert squeezed(body(text)) == squeezed(text.replace("threadgroup ", ""))


def test_threadgroup_in_parameters_and_methods():
    text = """
    template <typename T> void fill(threadgroup T tile[32], const threadgroup T* from, threadgroup atomic_int& n);
    struct S { float x; void set(float v) threadgroup { x = v; } float get() const threadgroup { return x; } };
    """
    assert squeezed(Rewriter().header(text)) == squeezed(text.replace("threadgroup ", ""))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("threadgroup float a[2] = {1, 2};", MetalRejects, "cannot be initialised"),
        ("void f(threadgroup float a);", MetalRejects, "no pointer or reference"),
        ("#define TILE threadgroup float a[2]", Unsupported, "in a macro"),
        ("\nthreadgroup float* threadgroup p;", Unsupported, "line 2: a pointer that itself lies in threadgroup"),
        ("using tile = array<threadgroup float>;", Unsupported, "'threadgroup' before"),
        ("const threadgroup float a[2];", Unsupported, "'const threadgroup' in a declaration"),
        ('#include "mlx/utils.h"', Unsupported, "only Metal's own headers"),
        ("float x = 1.0L;", MetalRejects, "is a double"),
        ("float x = f(1; /* never closed", SourceError, "a comment does not end"),
        ("struct S { threadgroup float a[2]; };", MetalRejects, "in the kernel itself only"),
    ],
)
def test_it_stops_at_what_it_cannot_translate(text, error, message):
    with pytest.raises(error, match=message):
        body(text)


def test_threadgroup_variables_belong_into_the_kernel():
    with pytest.raises(MetalRejects, match="header, line 2: .*in the kernel itself only"):
        Rewriter().header("void f() {\nthreadgroup float a[2]; }")


def test_literals():
    assert (
        body("1.0 .5 2. 1e3 1E-3 0x1p4 0x1Fu 7 7u 1.5f 0b1e") == "1.0f .5f 2.f 1e3f 1E-3f 0x1p4f 0x1Fu 7 7u 1.5f 0b1e"
    )
    assert body("1.5h + 2.0bf") == "::msl::metal::half(1.5f) + ::msl::metal::bfloat(2.0f)"
    assert body('x[1].y // 1.0 "') == 'x[1].y // 1.0 "'


def test_swizzles():
    assert body("a.xy = b.yx;") == "a.template put<0, 1>() = b.template get<1, 0>();"
    assert (
        body("c.rgb *= p->xyzw.ww;")
        == "c.template put<0, 1, 2>() *= p->template get<0, 1, 2, 3>().template get<3, 3>();"
    )
    assert body("a.xy == b.xy; a.x; f.xy();") == "a.template get<0, 1>() == b.template get<0, 1>(); a.x; f.xy();"
    # A member of the kernel's own that is spelt like one.
    assert body("struct S { int bar; }; s.bar = 1;") == "struct S { int bar; }; s.bar = 1;"


def test_metal_headers_are_left_out_and_collectives_noticed():
    rewriter = Rewriter()
    assert rewriter.header("#include <metal_stdlib>\nusing namespace metal;\n") == "\nusing namespace metal;\n"
    rewriter.source("y[0] = simdgroup_index_in_threadgroup + threads_per_simdgroup;")
    assert not rewriter.collective
    rewriter.source("simd_sum(1);")
    assert rewriter.collective


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("double x;", "Metal has no double"),
        ("x = std::max(1, 2);", "'std::'"),
        ("\nfloat* p = new float[3];", "line 2: '.*(float\\*|new)"),
        ("long long n;", "long long"),
        ("throw 1;", "no exceptions"),
        ("void f(float* p) {}", "'float\\*' without an address space"),
        ("template <typename T> void f(const T& v) {}", "'T&' without an address space"),
        ("struct S { int a; }; void f(S& s) {}", "'S&' without an address space"),
        ("auto p = (half4*)q;", "'half4\\*' without an address space"),
    ],
)
def test_lint_rejects(text, message):
    with pytest.raises(MetalRejects, match=message):
        lint.check(text, "source")


@pytest.mark.parametrize(
    "text",
    [
        "// double new std::\nfloat x = a * b;",
        "void f(device float* p, thread const T& v, constant int& n, const threadgroup half* q) {}",
        "uint n = uint(a) * b; x = float(y) * z; w = (a & b) * (c);",
        "auto& v = shared[0]; params.new_value = renewed;",
        "template <typename T> T twice(T v) { return v * T(2); }",
    ],
)
def test_lint_accepts(text):
    lint.check(text, "source")
