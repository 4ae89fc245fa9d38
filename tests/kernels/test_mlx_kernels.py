"""Every MLX kernel made of MLX operations against the oracle: values, gradients, odd shapes, strides, dtypes.

The yardstick of a library arm is the worse of both baselines' own errors; that of the MLX baseline the PyTorch one's.
"""

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")

from kernel_cases import (  # noqa: E402
    allowed,
    arguments,
    cotangents,
    error,
    kernel,
    oracle,
    output_dtypes,
    run,
    sensitivity,
    wide,
    workload,
)

from autoresearch_mlx.arrays import to_numpy  # noqa: E402
from autoresearch_mlx.probe.layout import Argument  # noqa: E402
from autoresearch_mlx.seam import KERNELS_ROOT, TARGETS, installed_kernel, load_kernel  # noqa: E402

KERNELS = [(target, name) for target in TARGETS for name in ("mlx_eager", "mlx_library")]
KINDS = ("typical", "edge", "adversarial")
# On the CPU MLX adds up in fewer running sums than PyTorch, so that sums over a whole array (the gradients of the
# residual scales) come out several times less exact. A mistake is thousands of times larger.
SUMS = 8
STORAGE = {"float32": np.float32, "float16": np.float16, "int64": np.int32}


def mlx_arguments(case, exact):
    """The very values of the PyTorch arguments, in the layout of the specs."""
    found = {}
    for spec in case["args"]:
        value = exact[spec["name"]]
        if spec["kind"] == "array":
            dtype = "int32" if spec["dtype"] == "int64" else spec["dtype"]
            value = Argument({**spec, "dtype": dtype}, _stored(np.asarray(value), spec["dtype"])).array
        found[spec["name"]] = value
    return found


def _stored(values, dtype):
    import ml_dtypes

    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else STORAGE[dtype])


def mlx_run(function, args, grads, g):
    """Outputs as float64 arrays, and the gradients by name."""

    def outputs(*leaves):
        result = function(*(args | dict(zip(grads, leaves, strict=True))).values())
        return list(result) if isinstance(result, tuple) else [result]

    leaves = [args[name] for name in grads]
    if not grads:
        found, gradients = outputs(), []
    else:
        given = [mx.array(np.asarray(c, np.float32)).astype(y.dtype) for c, y in zip(g, outputs(*leaves), strict=True)]
        found, gradients = mx.vjp(outputs, leaves, given)
    as_wide = [to_numpy(y) for y in (*found, *gradients)]
    as_wide = [y if y.dtype == bool else y.astype(np.float64) for y in as_wide]
    return as_wide[: len(found)], dict(zip(grads, as_wide[len(found) :], strict=True))


def own_angles(target, name):
    return name == "mlx_library" and target in ("rope", "qk_prelude")


def compare(target, name, case, kind, seed=11):
    rng = np.random.default_rng(seed)
    baseline_args = arguments(case, oracle(target).inputs(case, rng, kind))
    exact = {n: wide(v) for n, v in baseline_args.items()}
    reference = oracle(target).forward(exact)
    grads = [spec["name"] for spec in case["args"] if spec.get("grad")]
    g = cotangents(case, reference, rng) if grads else None
    expected = oracle(target).backward(exact, g) if g else {}
    conditions, gradient_conditions = sensitivity(target, exact, g)
    args = mlx_arguments(case, exact)
    outputs, gradients = mlx_run(load_kernel(installed_kernel(target, name)), args, grads, g)
    own_outputs, own_gradients = mlx_run(load_kernel(installed_kernel(target)), args, grads, g)
    base_outputs, base_gradients = run(kernel(target, "torch_eager"), baseline_args, g)
    eager = name == "mlx_eager"
    # The angle, position times frequency, is rounded too.
    angle = case["args"][0]["shape"][1] * 2.0**-23 if own_angles(target, name) else 0.0

    def bound(dtype, base, own, right, condition):
        limit = allowed(target, dtype, error(base, right, condition))
        return SUMS * limit if eager else max(limit, allowed(target, dtype, error(own, right, condition)), angle)

    where = f"{[spec.get('shape') for spec in case['args']]} {kind}"
    results = zip(output_dtypes(case), outputs, base_outputs, own_outputs, reference, conditions, strict=True)
    for dtype, ours, base, own, right, condition in results:
        assert error(ours, right, condition) <= bound(dtype, base, own, right, condition), where
    dtypes = {spec["name"]: spec.get("dtype") for spec in case["args"]}
    for argument in grads:
        right, condition = expected[argument], gradient_conditions[argument]
        limit = bound(dtypes[argument], base_gradients[argument], own_gradients[argument], right, condition)
        assert error(gradients[argument], right, condition) <= limit, f"gradient of {argument}: {where}"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("target", "name"), KERNELS)
def test_kernel_agrees_with_the_oracle(target, name, dtype):
    if not (KERNELS_ROOT / target / f"{name}.py").is_file():
        pytest.skip(f"{target} has no {name}: MLX offers no such operator")
    base = workload(target, dtype)
    # mx.fast.rope computes its own angles: unrelated tables are not for it.
    kinds = ("typical", "edge") if own_angles(target, name) else KINDS
    for kind in kinds:
        compare(target, name, base, kind)
    for case in oracle(target).neighbours(base, np.random.default_rng(5)):
        compare(target, name, case, "typical")


def test_the_library_rotation_is_ours_and_not_the_usual_one():
    """The usual frequencies turn the other way: a port that forgets it still trains."""
    x = mx.random.normal((1, 5, 2, 8), key=mx.random.key(0))
    angle = np.arange(5)[:, None] * 10000.0 ** (-np.arange(4) / 4)
    cos, sin = (mx.array(f(angle).astype(np.float32))[None, :, None, :] for f in (np.cos, np.sin))
    eager, library = (load_kernel(installed_kernel("rope", name))(x, cos, sin) for name in ("mlx_eager", "mlx_library"))
    assert mx.allclose(eager, library, atol=1e-5)
    usual = mx.fast.rope(x.transpose(0, 2, 1, 3), 8, traditional=False, base=10000.0, scale=1.0, offset=0)
    assert not mx.allclose(eager, usual.transpose(0, 2, 1, 3), atol=1e-2)


def test_attention_knows_time_from_heads_and_its_window():
    """Port bugs that trained all the same: no mask on full layers, scale 1, one key fewer in the window."""
    attention = load_kernel(installed_kernel("windowed_attention"))
    q, k, v = (mx.random.normal((1, 6, 2, 4), key=mx.random.key(i)) for i in range(3))
    full = attention(q, k, v, 6)
    for name, changed in (("v", (q, k, v.at[:, 5].add(1.0))), ("k", (q, k.at[:, 5].add(1.0), v))):
        later = attention(*changed, 6)
        assert mx.array_equal(full[:, :5], later[:, :5]), f"{name} of a later position is seen"
    near = attention(q, k, v, 2)
    assert mx.array_equal(near[:, 5], attention(q, k, v.at[:, :3].add(1.0), 2)[:, 5])
    assert not mx.array_equal(near[:, 5], attention(q, k, v.at[:, 3].add(1.0), 2)[:, 5])
    scores = (q[0, 1, 0] * k[0, :2, 0]).sum(-1) / 2
    expected = (mx.softmax(scores)[:, None] * v[0, :2, 0]).sum(0)
    assert mx.allclose(full[0, 1, 0], expected, atol=1e-6)
