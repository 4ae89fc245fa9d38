"""The Triton kernels of products, losses and updates against the oracle: values, gradients, NaN, odd and ragged shapes,
and larger calls that take several programs and chunks."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from kernel_cases import arguments, array, cotangents, error, kernel, oracle, run, wide, workload
from test_kernels import KINDS, compare
from test_kernels import test_native_kernel_propagates_nan_and_inf_as_the_oracle as nonfinite

from autoresearch_common.workload import variant
from autoresearch_trainer.probe.native_code import definitions

NAME = "triton_fused"
TARGETS = (
    "softcap_cross_entropy",
    "windowed_attention",
    "newton_schulz",
    "adamw_update",
    "muon_update",
    "loss_head",
    "mlp",
)
# Several tiles each way, ragged at every edge: the trainer's proportions, scaled down.
LARGER = {
    "softcap_cross_entropy": {"logits": (130, 2500), "targets": (130,)},
    "windowed_attention": dict.fromkeys("qkv", (1, 300, 1, 128)) | {"window": 150},
    "newton_schulz": {"g": (1, 150, 140)},
    "adamw_update": dict.fromkeys(("p", "grad", "exp_avg", "exp_avg_sq"), (75, 101)),
    "muon_update": dict.fromkeys(("p", "grad", "momentum"), (2, 150, 70)) | {"second_momentum": (2, 150, 1)},
    "loss_head": {"x": (70, 130), "w_head": (1100, 130), "targets": (70,)},
    "mlp": {"x": (3, 100, 72), "w_fc": (290, 72), "w_proj": (72, 290)},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("target", TARGETS)
def test_agrees_with_the_oracle(target, dtype):
    """The small call; verify takes the odd ones."""
    for kind in KINDS:
        compare(target, NAME, workload(target, dtype), kind, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", TARGETS)
def test_agrees_on_several_tiles(target, dtype):
    compare(target, NAME, variant(workload(target, dtype), **LARGER[target]), "adversarial", dtype)


@pytest.mark.parametrize("target", TARGETS)
def test_propagates_nan_and_inf(target):
    nonfinite(target, NAME, "bfloat16")


@pytest.mark.parametrize("target", TARGETS)
def test_takes_empty_arrays(target):
    case = workload(target)
    args = arguments(case, oracle(target).inputs(case, np.random.default_rng(0), "typical"))
    if "reduction" in args:
        args["reduction"] = "none"
    for name, value in args.items():
        if torch.is_tensor(value) and not name.startswith("w_"):
            args[name] = value.detach()[:0].requires_grad_(value.requires_grad)
    y = kernel(target, NAME)(*args.values())
    assert all(result.numel() == 0 for result in (y if isinstance(y, tuple) else (y,)))
    leaves = [value for value in args.values() if getattr(value, "requires_grad", False)]
    if leaves:
        gradients = torch.autograd.grad(y.sum(), leaves)
        assert [gradient.shape for gradient in gradients] == [leaf.shape for leaf in leaves]
        assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("cotangent", [1.0, 0.25, -3.7, 0.0])
def test_loss_gives_one_gradient_whatever_way_it_is_asked(cotangent):
    """Kept from the forward pass, scaled by a power of two, computed again, asked for twice: the rounded exact one."""
    target = "softcap_cross_entropy"
    loss = kernel(target, NAME)
    logits = (torch.randn(40, 300, generator=torch.Generator().manual_seed(0)) * 3).bfloat16().requires_grad_()
    targets = torch.randint(300, (40,))
    exact = {"logits": wide(logits), "targets": targets.numpy(), "softcap": 15.0, "reduction": "mean"}
    right = oracle(target).backward(exact, (np.float64(cotangent),))["logits"]
    value = loss(logits, targets, 15.0, "mean")
    first = torch.autograd.grad(value, logits, torch.tensor(cotangent), retain_graph=True)[0]
    again = torch.autograd.grad(value, logits, torch.tensor(cotangent))[0]
    assert torch.equal(first, again) and first.data_ptr() != again.data_ptr()
    assert error(wide(first), right) <= 2**-8
    with torch.no_grad():
        assert torch.equal(loss(logits, targets, 15.0, "mean"), value.detach())


@pytest.mark.parametrize(("classes", "cap"), [(1, 15.0), (64, 0.5), (70, 40.0), (70, 41.0), (64, 200.0)])
def test_loss_with_small_and_large_caps(classes, cap):
    """Beyond a cap of 40 a row needs its maximum; a class alone has loss 0 and no gradient, exactly."""
    allowed = max(3e-6, cap * 2**-22)  # a few roundings of 2·cap·r
    for target, shapes in {
        "softcap_cross_entropy": {"logits": (9, classes)},
        "loss_head": {"x": (9, 16), "w_head": (classes, 16)},
    }.items():
        case = variant(workload(target), **shapes, targets=(9,), softcap=cap)
        values = oracle(target).inputs(case, np.random.default_rng(1), "typical")
        outputs, gradients = run(kernel(target, NAME), arguments(case, values), (np.float64(0.7),))
        assert outputs[0] == 0 if classes == 1 else error(outputs[0], oracle(target).forward(values)[0]) <= allowed
        for name, right in oracle(target).backward(values, (np.float64(0.7),)).items():
            assert error(gradients[name], right) <= allowed if classes > 1 else not gradients[name].any()


@pytest.mark.parametrize("target", ["softcap_cross_entropy", "loss_head"])
def test_loss_ignores_targets_and_makes_wrong_ones_nan(target):
    function = kernel(target, NAME)
    x = torch.randn(3, 5, requires_grad=True)
    weights = () if target == "softcap_cross_entropy" else (torch.randn(5, 5, requires_grad=True),)

    def loss(targets, reduction):
        return function(x, *weights, targets, 15.0, reduction)

    nothing = loss(torch.full((3,), -1), "mean")
    assert nothing.isnan()
    assert not any(gradient.any() for gradient in torch.autograd.grad(nothing, (x, *weights)))
    short = loss(torch.tensor([1, -1, 4], dtype=torch.int32), "none")
    assert short[1] == 0 and torch.all(short[[0, 2]] > 0)
    for wrong in (5, -2):
        values = loss(torch.tensor([0, wrong, 0]), "none")
        assert values.isnan().tolist() == [False, True, False]
        gradient = torch.autograd.grad(loss(torch.tensor([0, wrong, 0]), "mean"), x)[0]
        assert gradient.isnan().any(1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="reduction 'sum'"):
        loss(torch.zeros(3, dtype=torch.int64), "sum")


def test_head_is_the_same_in_one_chunk_and_in_many(monkeypatch):
    function = kernel("loss_head", NAME)
    case = variant(workload("loss_head"), x=(70, 24), w_head=(50, 24), targets=(70,))
    values = oracle("loss_head").inputs(case, np.random.default_rng(1), "adversarial")
    g = (np.float64(-0.3),)
    whole, whole_gradients = run(function, arguments(case, values), g)
    monkeypatch.setitem(function.__globals__, "CHUNK_LOGITS", 50 * 16)
    parts, part_gradients = run(function, arguments(case, values), g)
    np.testing.assert_allclose(whole[0], parts[0], rtol=1e-6)
    for name, right in oracle("loss_head").backward(values, g).items():
        assert error(part_gradients[name], right) <= 2e-6 and error(whole_gradients[name], right) <= 2e-6


def test_attention_of_grouped_heads():
    """Several query heads share a key head, whose gradients gather theirs."""
    shapes = {"q": (2, 75, 6, 24), "k": (2, 75, 2, 24), "v": (2, 75, 2, 24)}
    case = {"args": [array(name, shape, "float32", True) for name, shape in shapes.items()]}
    case["args"].append({"name": "window", "kind": "scalar", "value": 33})
    rng = np.random.default_rng(0)
    values = oracle("windowed_attention").inputs(case, rng, "typical")
    args = arguments(case, values)
    exact = {name: wide(value) for name, value in args.items()}
    reference = oracle("windowed_attention").forward(exact)
    g = cotangents(case, reference, rng)
    outputs, gradients = run(kernel("windowed_attention", NAME), args, g)
    assert error(outputs[0], reference[0]) <= 4e-6
    for name, right in oracle("windowed_attention").backward(exact, g).items():
        assert error(gradients[name], right) <= 4e-6


def test_kernels_decline_what_they_cannot_do():
    heads = torch.zeros(1, 3, 1, 136)
    with pytest.raises(NotImplementedError, match="width 136"):
        kernel("windowed_attention", NAME)(heads, heads, heads, 3)
    rows = torch.zeros(1, 16385)
    with pytest.raises(NotImplementedError, match="16385 elements"):
        kernel("softcap_cross_entropy", NAME)(rows, torch.zeros(1, dtype=torch.int64), 15.0, "mean")
    with pytest.raises(NotImplementedError, match="16385 elements"):
        kernel("loss_head", NAME)(torch.zeros(1, 2), torch.zeros(16385, 2), torch.zeros(1).long(), 15.0, "mean")


def test_products_beside_the_diagonal_are_mirrored_exactly():
    """The Gram matrix that the iteration goes on with is symmetric to the bit."""
    module = definitions(kernel("newton_schulz", NAME))
    x = torch.randn(1, 150, 40).bfloat16()
    gram = torch.full((1, 150, 150), float("nan"), dtype=torch.bfloat16)
    module["_symmetric"][lambda meta: (6, 1)](x, gram, 150, 40, 40, 1, 0.0, 1.0, ADD=False)
    assert torch.equal(gram, gram.mT)
    assert error(wide(gram), wide(x[0]) @ wide(x[0]).T[None]) <= 2**-8


@triton.jit
def _multiply(a, b, y, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """y = a bᵀ, all dense."""
    i, j, k = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    left = tl.load(a + i[:, None] * DEPTH + k[None, :])
    right = tl.load(b + j[:, None] * DEPTH + k[None, :])
    product = tl.dot(left, tl.trans(right), input_precision="ieee")
    tl.store(y + i[:, None] * COLUMNS + j[None, :], product)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_interpreted_products_are_those_of_the_numbers(dtype):
    """Of bfloat16's values, not its bits; the others are the same whatever the tile and the order of operands."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 32, generator=generator).to(dtype) for _ in range(2))

    def product(left, right):
        y = torch.empty(len(left), len(right))
        _multiply[(1,)](left, right, y, ROWS=len(left), COLUMNS=len(right), DEPTH=32)
        return y

    whole = product(a, b)
    torch.testing.assert_close(whole, (a.double() @ b.double().T).float(), rtol=1e-5, atol=1e-5)
    if dtype != torch.bfloat16:
        assert torch.equal(product(b, a).T, whole) and torch.equal(product(a[:16], b[:32]), whole[:16, :32])
