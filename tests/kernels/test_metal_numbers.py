"""Metal kernels, compiled for the CPU, against the oracle in three dtypes, and what is peculiar to some of them."""

from functools import cache

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")

from kernel_cases import array, oracle, workload  # noqa: E402
from metal_support import KERNELS, needs_metal_cpu  # noqa: E402
from mlx_cases import compare  # noqa: E402

from autoresearch_mlx.kernel_files import installed_kernel  # noqa: E402
from autoresearch_mlx.probe.metal_on_cpu import metal_on_cpu  # noqa: E402
from autoresearch_trainer.kernel_files import load_kernel  # noqa: E402

pytestmark = needs_metal_cpu
DTYPES = ("float32", "bfloat16", "float16")
CASES = [(kernel.target, dtype) for kernel in KERNELS for dtype in DTYPES]
STACKED = {"muon_update"}  # its small workload is float32


@cache
def metal(target, own_parts=False):
    """The kernel; with its parts in Metal too where asked, else those of the baseline."""
    with metal_on_cpu():
        parts = (lambda part: load_kernel(installed_kernel(part, "metal_fused"))) if own_parts else None
        return load_kernel(installed_kernel(target, "metal_fused"), parts)


def normal(shape, seed, dtype=mx.float32):
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


@pytest.mark.parametrize(
    ("target", "dtype"), [case for case in CASES if case[0] not in STACKED or case[1] == DTYPES[0]]
)
def test_kernel_agrees_with_the_oracle(target, dtype):
    base = workload(target, dtype)
    with metal_on_cpu():
        for kind in ("typical", "adversarial"):
            compare(target, "metal_fused", base, kind)
        # `verify` goes through all of them.
        for case in oracle(target).neighbours(base, np.random.default_rng(5))[1::3]:
            compare(target, "metal_fused", case, "typical")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "key_heads", "window"), [((1, 70, 2, 128), 2, 20), ((1, 45, 1, 64), 1, 45), ((2, 40, 4, 20), 2, 7)]
)
def test_attention_in_the_trainers_widths_and_with_shared_keys(shape, key_heads, window, dtype):
    case = workload("windowed_attention", dtype)
    keys = (*shape[:2], key_heads, shape[3])
    arrays = [array(name, shape if name == "q" else keys, dtype, True) for name in "qkv"]
    case["args"] = [*arrays, {"name": "window", "kind": "scalar", "value": window}]
    with metal_on_cpu():
        compare("windowed_attention", "metal_fused", case, "typical")


def test_attention_never_reads_blocks_that_the_window_hides():
    """A NaN in a hidden key or value goes nowhere if its block is skipped, and spreads if multiplied by 0."""
    q, k, v, g = (normal((1, 96, 1, 16), seed) for seed in range(4))
    window = 10
    k, v = (x.at[:, :32].add(mx.array(float("nan"))) for x in (k, v))
    (y,), (dq, dk, dv) = mx.vjp(lambda *args: [metal("windowed_attention")(*args, window)], [q, k, v], [g])
    for result in (y, dq, dk, dv):
        assert not mx.isnan(result[:, 64:]).any()
    assert mx.isnan(y[:, 32 : 32 + window]).all()


def test_attention_refuses_what_it_cannot_do():
    wide, narrow = normal((1, 4, 1, 136), 0), normal((1, 4, 1, 16), 1)
    with pytest.raises(ValueError, match="at most 128"):
        metal("windowed_attention")(wide, wide, wide, 2)
    with pytest.raises(TypeError, match="one dtype"):
        metal("windowed_attention")(narrow, narrow, narrow.astype(mx.float16), 2)


def test_loss_of_a_target_that_is_no_class_is_not_a_number():
    logits = normal((3, 40), 0)
    losses = metal("softcap_cross_entropy")(logits, mx.array([5, 40, -1]), 15.0, "none")
    assert mx.isnan(losses).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="unknown reduction 'sum'"):
        metal("softcap_cross_entropy")(logits, mx.array([1, 2, 3]), 15.0, "sum")


@pytest.mark.parametrize("shape", [(2, 70, 45), (1, 33, 90)])
@pytest.mark.parametrize("transposed", [False, True])
def test_mirrored_tiles_make_a_symmetric_matrix(shape, transposed):
    m = normal(shape, 3, mx.bfloat16)
    found = metal("newton_schulz").__globals__["_symmetric"](m, 0.5, transposed=transposed).astype(mx.float32)
    exact = np.array(m.astype(mx.float32), np.float64)
    exact = exact.transpose(0, 2, 1) if transposed else exact
    expected = 0.5 * exact @ exact.transpose(0, 2, 1)
    assert mx.array_equal(found, found.transpose(0, 2, 1))
    assert np.abs(np.array(found) - expected).max() <= 2.0**-8 * np.abs(expected).max()


def test_muon_with_its_polar_factor_in_metal():
    """All of the step in Metal differs from the baseline by no more than bfloat16 iterations do."""
    p, grad, momentum = (normal((2, 24, 40), seed) for seed in range(3))
    second = mx.full((2, 1, 40), 0.02)
    settings = (0.95, 0.04, 0.2, 0.95, 5)
    ours = metal("muon_update", own_parts=True)(p, grad, momentum, second, *settings)
    theirs = load_kernel(installed_kernel("muon_update"))(p, grad, momentum, second, *settings)
    assert mx.abs(ours[0] - theirs[0]).max() < 0.05 * mx.abs(theirs[0] - p).max()
    assert mx.allclose(ours[1], theirs[1], atol=1e-6)
    assert mx.allclose(ours[2], theirs[2], rtol=0.02)


@pytest.mark.parametrize("target", ["adamw_update", "muon_update"])
def test_optimizer_scalars_may_be_arrays(target):
    """As the compiled step has them."""
    p, grad, momentum = (normal((2, 9, 17), seed) for seed in range(3))
    if target == "adamw_update":
        state, settings, steps = (momentum, grad.square()), (3, 0.01, 0.8, 0.95, 1e-10, 0.1), ()
    else:
        state, settings, steps = (momentum, mx.full((2, 1, 17), 0.02)), (0.95, 0.04, 0.2, 0.95), (5,)
    plain = metal(target)(p, grad, *state, *settings, *steps)
    for ours, theirs in zip(metal(target)(p, grad, *state, *map(mx.array, settings), *steps), plain, strict=True):
        assert mx.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
