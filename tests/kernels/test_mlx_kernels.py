"""Every MLX kernel made of MLX operations against the oracle: values, gradients, odd shapes, strides, dtypes."""

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core", reason="MLX is not installed")

from kernel_cases import oracle, workload  # noqa: E402
from mlx_cases import compare, own_angles  # noqa: E402

from autoresearch_mlx.kernel_files import installed_kernel  # noqa: E402
from autoresearch_trainer.kernel_files import KERNELS_ROOT, TARGETS, load_kernel  # noqa: E402

KERNELS = [(target, name) for target in TARGETS for name in ("mlx_eager", "mlx_library")]
KINDS = ("typical", "edge", "adversarial")


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
