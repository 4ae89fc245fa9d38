"""How a kernel of the MLX engine is run on a small workload and compared with the oracle.

The yardstick of a kernel is the worse of both baselines' own errors; that of the MLX baseline the PyTorch one's.
"""

import ml_dtypes
import mlx.core as mx
import numpy as np
from kernel_cases import (
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
)

from autoresearch_mlx.arrays import to_numpy
from autoresearch_mlx.kernel_files import installed_kernel
from autoresearch_mlx.probe.layout import Argument
from autoresearch_trainer.kernel_files import load_kernel

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
