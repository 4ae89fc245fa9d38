"""Every PyTorch kernel of every target against the oracle: values, gradients, odd shapes, strides, dtypes."""

import numpy as np
import pytest
import torch
from kernel_cases import (
    ALL_KERNELS,
    NATIVE_KERNELS,
    allowed,
    arguments,
    as_tuple,
    contract,
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

from autoresearch_common import instruction_set
from autoresearch_common.workload import variant
from autoresearch_cuda.kernel_files import installed_kernel
from autoresearch_trainer.kernel_files import load_kernel

KINDS = ("typical", "edge", "adversarial")


def cases(target, dtype):
    """(workload, kind of inputs): the small call with all kinds, its odd neighbours with typical inputs."""
    base = workload(target, dtype)
    neighbours = oracle(target).neighbours(base, np.random.default_rng(5))
    return [(base, kind) for kind in KINDS] + [(case, "typical") for case in neighbours]


def compare(target, name, case, kind, dtype, seed=11, function=None):
    """Assert that every output and gradient is within the target's tolerance of the oracle. `function`: the kernel
    where it was loaded already."""
    rng = np.random.default_rng(seed)
    values = oracle(target).inputs(case, rng, kind)
    baseline_args, args = arguments(case, values), arguments(case, values)
    exact = {n: wide(v) for n, v in args.items()}
    reference = oracle(target).forward(exact)
    differentiable = any(spec.get("grad") for spec in case["args"])
    g = cotangents(case, reference, rng) if differentiable else None
    expected = oracle(target).backward(exact, g) if g else {}
    conditions, gradient_conditions = sensitivity(target, exact, g)
    base_outputs, base_gradients = run(kernel(target, "torch_eager"), baseline_args, g)
    # The library arms that Inductor fuses run as written here: compiling each shape would take minutes.
    with torch.compiler.set_stance("force_eager"):
        outputs, gradients = run(function or kernel(target, name), args, g)

    where = f"{[spec.get('shape') for spec in case['args']]} {kind}"
    results = zip(output_dtypes(case), outputs, base_outputs, reference, conditions, strict=True)
    for out_dtype, ours, base, right, condition in results:
        limit = allowed(target, out_dtype, error(base, right, condition))
        assert error(ours, right, condition) <= limit, where
    wanted = {spec["name"]: spec["dtype"] for spec in case["args"] if spec.get("grad")}
    assert gradients.keys() == wanted.keys() <= expected.keys()
    for argument, arg_dtype in wanted.items():
        right, condition = expected[argument], gradient_conditions[argument]
        limit = allowed(target, arg_dtype, error(base_gradients[argument], right, condition))
        assert error(gradients[argument], right, condition) <= limit, f"gradient of {argument}: {where}"
    mutable = {arg["name"] for arg in contract(target)["args"] if arg.get("inplace")}
    for argument in set(exact) - mutable:
        np.testing.assert_array_equal(wide(args[argument]), exact[argument], err_msg=f"{argument} was changed")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("target", "name"), ALL_KERNELS)
def test_kernel_agrees_with_the_oracle(target, name, dtype):
    for case, kind in cases(target, dtype):
        compare(target, name, case, kind, dtype)


@pytest.mark.parametrize(("target", "name"), NATIVE_KERNELS)
def test_native_kernel_in_float16(target, name):
    for case, kind in cases(target, "float16"):
        compare(target, name, case, kind, "float16")


@pytest.mark.parametrize("level", [each.name for each in instruction_set.known()])
@pytest.mark.parametrize(("target", "name"), NATIVE_KERNELS)
def test_native_kernel_at_every_instruction_set(target, name, level, monkeypatch):
    if level not in [each.name for each in instruction_set.available()]:
        pytest.skip(f"this processor has no {level}")
    monkeypatch.setenv(instruction_set.VARIABLE, level)
    function = load_kernel(installed_kernel(target, name))
    for dtype in ("float32", "bfloat16"):
        for case, kind in cases(target, dtype):
            compare(target, name, case, kind, dtype, function=function)


def test_attention_shares_keys_among_heads_and_refuses_what_does_not_fit():
    heads, fewer = (2, 70, 6, 40), (2, 70, 2, 40)
    for dtype in ("float32", "bfloat16"):
        case = variant(workload("windowed_attention", dtype), q=heads, k=fewer, v=fewer, window=20)
        compare("windowed_attention", "cpp_fused", case, "adversarial", dtype)
    attention = kernel("windowed_attention", "cpp_fused")
    q, k = torch.ones(heads), torch.ones(fewer)
    for wrong in [(q, k.bfloat16(), k), (q, k, k[:, :69]), (q, k[..., :39], k[..., :39]), (q[:, :, :5], k, k)]:
        with pytest.raises(TypeError, match="do not fit|no multiple"):
            attention(*wrong, 20)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("target", "shapes"),
    [
        ("loss_head", {"x": (1100, 72), "w_head": (1337, 72), "targets": (1100,)}),
    ],
)
def test_products_in_several_blocks_and_chunks(target, shapes, dtype):
    compare(target, "cpp_fused", variant(workload(target, dtype), **shapes), "adversarial", dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("target", "name"), NATIVE_KERNELS)
def test_native_kernel_propagates_nan_and_inf_as_the_oracle(target, name, dtype):
    propagates(target, name, dtype)


@pytest.fixture(params=[each.name for each in instruction_set.available()[1:]])
def other_instruction_set(request, monkeypatch):
    """Kernels compiled for one that is not this processor's best."""
    monkeypatch.setenv(instruction_set.VARIABLE, request.param)
    kernel.cache_clear()
    yield
    kernel.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("target", "name"), NATIVE_KERNELS)
def test_native_kernel_at_every_other_instruction_set(target, name, dtype, other_instruction_set):
    for case, kind in cases(target, dtype):
        compare(target, name, case, kind, dtype)
    propagates(target, name, dtype)


def propagates(target, name, dtype):
    """Assert that NaN and infinities are where the oracle has them."""
    case = workload(target, dtype)
    for seed in range(4):
        values = oracle(target).inputs(case, np.random.default_rng(seed), "nonfinite")
        args = arguments(case, values)
        exact = {n: wide(v) for n, v in args.items()}
        reference = oracle(target).forward(exact)
        g = tuple(np.ones(y.shape) for y in reference)
        outputs, gradients = run(kernel(target, name), args, g if any(s.get("grad") for s in case["args"]) else None)
        for ours, right in zip(outputs, reference, strict=True):
            assert np.array_equal(np.isnan(ours), np.isnan(right)) and np.array_equal(np.isinf(ours), np.isinf(right))
        for argument, right in oracle(target).backward(exact, g).items():
            assert np.array_equal(np.isnan(gradients[argument]), np.isnan(right)), argument


@pytest.mark.parametrize(("target", "name"), NATIVE_KERNELS)
def test_native_kernel_does_not_depend_on_the_number_of_threads(target, name):
    """Bitwise, on a call that is large enough to be split."""
    rows, heads = (257, 513), (3, 257, 2, 64)
    changes = {
        "softcap_cross_entropy": {"logits": rows, "targets": rows[:1]},
        "loss_head": {"x": (1100, 32), "targets": (1100,)},
        "mlp": {"x": (1100, 32), "w_fc": (160, 32), "w_proj": (32, 160)},
        "rope": {"x": heads, "cos": (1, 257, 1, 32), "sin": (1, 257, 1, 32)},
        "rms_norm": {"x": rows},
        "relu_squared": {"x": rows},
        "value_gate": {"v": heads, "ve": heads, "gate": heads[:3]},
        "residual_mix": {"x": rows, "x0": rows},
        "residual_norm": {"x": rows, "x0": rows},
        "qk_prelude": {"q": heads, "k": heads, "cos": (1, 257, 1, 32), "sin": (1, 257, 1, 32)},
        "windowed_attention": {"q": (3, 257, 4, 64), "k": heads, "v": heads},
        "adamw_update": dict.fromkeys(("p", "grad", "exp_avg", "exp_avg_sq"), rows),
        "muon_update": {
            **dict.fromkeys(("p", "grad", "momentum"), (5, 96, 80)),
            "second_momentum": (5, 96, 1),
        },
        "newton_schulz": {"g": (4, 150, 90)},
    }
    case = variant(workload(target, "bfloat16"), **changes[target])
    values = oracle(target).inputs(case, np.random.default_rng(2), "adversarial")
    g = None
    if any(spec.get("grad") for spec in case["args"]):
        g = cotangents(case, oracle(target).forward(values), np.random.default_rng(3))
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            outputs, gradients = run(kernel(target, name), arguments(case, values), g)
            results.append([*outputs, *gradients.values()])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("target", ["softcap_cross_entropy", "loss_head"])
def test_loss_ignores_targets_and_refuses_wrong_ones(target):
    function = kernel(target, "cpp_fused")

    def loss(logits, *others):
        return function(logits, *((torch.eye(5),) if target == "loss_head" else ()), *others)

    logits = torch.randn(3, 5, requires_grad=True)
    nothing = loss(logits, torch.full((3,), -1), 15.0, "mean")
    assert nothing.isnan()
    assert torch.equal(torch.autograd.grad(nothing, logits)[0], torch.zeros(3, 5))
    assert torch.equal(loss(logits, torch.full((3,), -1), 15.0, "none"), torch.zeros(3))
    short = loss(logits, torch.tensor([1, -1, 4], dtype=torch.int32), 15.0, "none")
    assert short[1] == 0 and torch.all(short[[0, 2]] > 0)
    for wrong in (5, -2):
        with pytest.raises(IndexError, match=f"target {wrong} of row 1"):
            loss(logits, torch.tensor([0, wrong, 0]), 15.0, "mean")
    with pytest.raises(ValueError, match="reduction 'sum'"):
        loss(logits, torch.zeros(3, dtype=torch.int64), 15.0, "sum")


def test_loss_gives_one_gradient_whatever_way_it_is_asked():
    """Kept from the forward pass, scaled by a power of two, recomputed, accumulated: always the rounded exact one."""
    loss, target = kernel("softcap_cross_entropy", "cpp_fused"), "softcap_cross_entropy"
    logits = (torch.randn(40, 300) * 3).bfloat16().requires_grad_()
    targets = torch.randint(300, (40,))
    exact = {"logits": wide(logits), "targets": targets.numpy(), "softcap": 15.0, "reduction": "mean"}
    for cotangent in (1.0, 0.25, -3.7, 0.0):
        (gradient,) = torch.autograd.grad(loss(logits, targets, 15.0, "mean"), logits, torch.tensor(cotangent))
        right = oracle(target).backward(exact, (np.float64(cotangent),))["logits"]
        assert error(wide(gradient), right) <= 2**-8
    value = loss(logits, targets, 15.0, "mean")
    value.backward(retain_graph=True)
    once = logits.grad.clone()
    value.backward()
    assert torch.equal(logits.grad, 2 * once)
    with torch.no_grad():
        assert torch.equal(loss(logits, targets, 15.0, "mean"), value.detach())


@pytest.mark.parametrize(("target", "name"), NATIVE_KERNELS)
def test_native_kernel_refuses_float64(target, name):
    case = workload(target)
    args = arguments(case, oracle(target).inputs(case, np.random.default_rng(0), "typical"))
    args = {n: v.detach().double() if torch.is_tensor(v) and v.is_floating_point() else v for n, v in args.items()}
    with pytest.raises((TypeError, NotImplementedError), match="float64"):
        kernel(target, name)(*args.values())


@pytest.mark.parametrize(("target", "name_of_kernel"), NATIVE_KERNELS)
def test_native_kernel_takes_empty_arrays(target, name_of_kernel):
    case = workload(target)
    args = arguments(case, oracle(target).inputs(case, np.random.default_rng(0), "typical"))
    if "reduction" in args:
        args["reduction"] = "none"
    kept = {"cos", "sin", "resid_lambda", "x0_lambda"}
    for name, value in args.items():
        if torch.is_tensor(value) and name not in kept:
            args[name] = value.detach()[:0].requires_grad_(value.requires_grad)
    results = as_tuple(kernel(target, name_of_kernel)(*args.values()))
    assert all(result.numel() == 0 for result in results)
    leaves = [value for value in args.values() if getattr(value, "requires_grad", False)]
    if not leaves:
        return
    gradients = torch.autograd.grad([result.sum() for result in results], leaves)
    assert [gradient.shape for gradient in gradients] == [leaf.shape for leaf in leaves]
