"""half and bfloat16 against NumPy, exhaustively where that is cheap; literals, vectors, math."""

import ml_dtypes
import numpy as np
import pytest

BF16 = np.dtype(ml_dtypes.bfloat16)
ALL = np.arange(1 << 16, dtype=np.uint16)


def same(a, b):
    """Equal bit for bit, any not-a-number being as good as another."""
    a, b = np.asarray(a), np.asarray(b)
    nan = np.isnan(a.astype(np.float32)) & np.isnan(b.astype(np.float32))
    bits = f"u{a.dtype.itemsize}"
    return bool(np.all((a.view(bits) == b.view(bits)) | nan))


@pytest.mark.parametrize("dtype", [np.float16, BF16], ids=["half", "bfloat"])
def test_every_value_survives_float_and_as_type(run, dtype):
    x = ALL.view(dtype)
    source = """
        uint i = thread_position_in_grid.x;
        wide[i] = float(x[i]);
        back[i] = T(float(x[i]));
        bits[i] = as_type<ushort>(x[i]);
        again[i] = as_type<T>(ushort(i));
    """
    outputs = {"wide": (x.shape, np.float32), "back": (x.shape, dtype), "bits": (x.shape, np.uint16)}
    outputs |= {"again": (x.shape, dtype)}
    (wide, back, bits, again), _ = run(source, {"x": x}, outputs, (1 << 16, 1, 1), (256, 1, 1), template=[("T", dtype)])
    assert same(wide, x.astype(np.float32)) and same(back, x) and same(again, x)
    assert np.array_equal(bits, ALL)


@pytest.mark.parametrize("dtype", [np.float16, BF16], ids=["half", "bfloat"])
def test_rounding_from_float(run, rng, dtype):
    """Every value, every midpoint between neighbours, and the floats just beside the midpoints."""
    x = ALL.view(dtype).astype(np.float32)
    x = np.sort(x[np.isfinite(x)])
    with np.errstate(over="ignore"):
        middle = ((x[1:].astype(np.float64) + x[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(middle, np.float32(sign)) for sign in (-np.inf, np.inf)]
    special = np.array([np.inf, -np.inf, np.nan, 65519.99, 65520, 3.4e38, -3.4e38, 1e-45, 0.0, -0.0], np.float32)
    anything = rng.integers(0, 1 << 32, 100_000, dtype=np.uint32).view(np.float32)
    values = np.concatenate([x, middle, *beside, special, anything])
    source = "uint i = thread_position_in_grid.x; y[i] = T(x[i]);"
    shape = values.shape
    (y,), _ = run(
        source, {"x": values}, {"y": (shape, dtype)}, (values.size, 1, 1), (512, 1, 1), template=[("T", dtype)]
    )
    with np.errstate(over="ignore", invalid="ignore"):
        assert same(y, values.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float16, BF16], ids=["half", "bfloat"])
def test_every_operation_rounds(run, rng, dtype):
    """The four operations on 300,000 random pairs: each result is the exact one, rounded once."""
    a, b = (rng.integers(0, 1 << 16, 300_000, dtype=np.uint16).view(dtype) for _ in range(2))
    source = """
        uint i = thread_position_in_grid.x;
        T p = a[i], q = b[i];
        sum[i] = p + q; difference[i] = p - q; product[i] = p * q; quotient[i] = p / q;
        chained[i] = (p + q) * q;
    """
    names = ["sum", "difference", "product", "quotient", "chained"]
    outputs = {name: (a.shape, dtype) for name in names}
    got, report = run(source, {"a": a, "b": b}, outputs, (a.size, 1, 1), (256, 1, 1), template=[("T", dtype)])
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        # float64 holds sums and products of two such values exactly enough that one rounding follows.
        expected = [x + y, x - y, x * y, x / y]
        expected = [value.astype(np.float32).astype(dtype) for value in expected]
        expected.append(((expected[0].astype(np.float64)) * y).astype(np.float32).astype(dtype))
    for name, one, other in zip(names, got, expected, strict=True):
        assert same(one, other), name
    assert report.ok


def test_half_sums_lose_what_float_keeps(run):
    x = np.full(4096, 1.0, np.float16)
    source = "T sum = 0; for (int i = 0; i < 4096; ++i) sum += T(x[i]); y[0] = float(sum);"
    results = {}
    for dtype in (np.float16, np.float32):
        (y,), _ = run(source, {"x": x}, {"y": ((1,), np.float32)}, (1, 1, 1), (1, 1, 1), template=[("T", dtype)])
        results[dtype] = y[0]
    assert results == {np.float16: 2048.0, np.float32: 4096.0}


def test_literals_are_float_half_and_bfloat(run):
    source = """
        y[0] = 0.1; y[1] = 1e-1; y[2] = float(0.1h); y[3] = float(0.1bf); y[4] = 1. / 3; y[5] = 0x1p-3; y[6] = 1 / 2;
        y[7] = sizeof(0.5) + sizeof(0.5h) + sizeof(0.5bf) + 0x1F;
    """
    (y,), _ = run(source, {}, {"y": ((8,), np.float32)}, (1, 1, 1), (1, 1, 1))
    tenth = np.float32(0.1)
    expected = [tenth, tenth, np.float16(0.1), BF16.type(0.1), np.float32(1) / 3, 0.125, 0, 8 + 31]
    assert np.array_equal(y, np.array([np.float32(value) for value in expected]))


def test_vectors_and_swizzles(run):
    source = """
        float4 v = float4(1.0, 2.0, float2(3.0, 4.0));
        v.xy = v.yx;
        v.zw += float2(10);
        float3 w = v.wzy * 2 - v.x;
        half2 h = half2(v.rg);
        uint3 u = uint3(7u, 9u, 12u) % 5u;
        bool3 less = w < float3(20.0, 30.0, 0.0);
        for (uint i = 0; i < 4; ++i) y[i] = v[i];
        y[4] = w.x; y[5] = w.y; y[6] = w.z; y[7] = h.x + h.y; y[8] = u.x * 100 + u.y * 10 + u.z;
        y[9] = dot(v.xyz, float3(1, 0, 2)); y[10] = any(less) && !all(less); y[11] = v.wzyx.yx.x;
        y[12] = length(float2(3, 4)); y[13] = select(1.0, 2.0, less.x); y[14] = fma(2.0, 3.0, 4.0);
        device float4* q = (device float4*)y;
        y[15] = q[0].w;
    """
    (y,), report = run(source, {}, {"y": ((16,), np.float32)}, (1, 1, 1), (1, 1, 1), check=True)
    expected = [2, 1, 13, 14, 26, 24, 0, 3, 242, 28, 1, 13, 5, 1, 10, 14]
    assert y.tolist() == expected and report.ok


def test_math_agrees_with_numpy(run, rng):
    x = np.concatenate([rng.normal(size=2000), rng.uniform(0.001, 20, 2000)]).astype(np.float32)
    functions = {
        "exp": np.exp, "exp2": np.exp2, "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "fabs": np.abs,
        "floor": np.floor, "ceil": np.ceil, "rint": np.rint, "trunc": np.trunc, "sign": np.sign,
    }  # fmt: skip
    positive = {"log": np.log, "log2": np.log2, "sqrt": np.sqrt, "rsqrt": lambda v: 1 / np.sqrt(v)}
    names = [*functions, *positive]
    body = "".join(f"{name}_[i] = {name}(x[i]);" for name in functions)
    body += "".join(f"{name}_[i] = metal::precise::{name}(abs(x[i]));" for name in positive)
    outputs = {f"{name}_": (x.shape, np.float32) for name in names}
    results, _ = run("uint i = thread_position_in_grid.x;" + body, {"x": x}, outputs, (x.size, 1, 1), (64, 1, 1))
    wide = x.astype(np.float64)
    for name, got in zip(names, results, strict=True):
        expected = functions[name](wide) if name in functions else positive[name](np.abs(wide))
        assert np.allclose(got, expected, rtol=4e-7, atol=1e-30), name


def test_edges_of_safe_math(run):
    source = """
        y[0] = exp(-INFINITY); y[1] = max(NAN, 1.0f); y[2] = fmin(2.0f, NAN); y[3] = isnan(NAN); y[4] = tanh(INFINITY);
        y[5] = Limits<float>::max; y[6] = float(Limits<half>::finite_max); y[7] = log(0.0f);
        y[8] = numeric_limits<bfloat>::max();
    """
    (y,), _ = run(source, {}, {"y": ((9,), np.float32)}, (1, 1, 1), (1, 1, 1))
    expected = [0, 1, 2, 1, 1, np.inf, 65504, -np.inf, float(ml_dtypes.finfo(BF16).max)]
    assert y.tolist() == expected


def test_bfloat_is_strict_about_conversions(run):
    from autoresearch_mlx.metal_cpu import CompileFailed

    (y,), _ = run(
        "bfloat a = x[0]; y[0] = a + a * 2;", {"x": np.ones(9, BF16)}, {"y": ((1,), BF16)}, (1,) * 3, (1,) * 3
    )
    assert y[0] == 3
    with pytest.raises(CompileFailed, match="source, line 2"):
        run("float f = x[0];\ny[0] = f;", {"x": np.ones(9, BF16)}, {"y": ((1,), BF16)}, (1,) * 3, (1,) * 3)
