"""The oracles themselves, against independent float64 expressions in PyTorch, its autograd, and finite differences."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_cases import arguments, contract, kernel, oracle, run, wide, workload

from autoresearch_trainer.kernel_files import TARGETS

DIFFERENTIABLE = [target for target in TARGETS if any(arg.get("grad") for arg in contract(target)["args"])]


def rope(x, cos, sin):
    """As a product of complex numbers: (x1 + i x2) e^(-i theta)."""
    x1, x2 = x.chunk(2, dim=-1)
    y = torch.complex(x1, x2) * torch.complex(cos, -sin)
    return torch.cat([y.real, y.imag], dim=-1)


def mask(seq_len, window, like):
    return torch.ones(seq_len, seq_len).tril().triu(-window).bool()


def attention(q, k, v, window):
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    visible = mask(q.shape[2], window, None)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True).transpose(1, 2)


def newton_schulz(g, steps):
    """An odd polynomial of a matrix acts on its singular values."""
    left, values, right = torch.linalg.svd(g, full_matrices=False)
    values = values / (torch.linalg.vector_norm(values, dim=-1, keepdim=True) * 1.02 + 1e-6)
    coefficients = oracle("newton_schulz").COEFFICIENTS
    for step in range(steps):
        a, b, c = coefficients[min(step, 4)]
        values = a * values + b * values**3 + c * values**5
    return left @ torch.diag_embed(values) @ right


def cross_entropy(logits, targets, softcap, reduction):
    return F.cross_entropy(softcap * torch.tanh(logits / softcap), targets, ignore_index=-1, reduction=reduction)


def adamw(p, grad, exp_avg, exp_avg_sq, step, lr, beta1, beta2, eps, weight_decay):
    parameter = torch.nn.Parameter(p.clone())
    parameter.grad = grad
    optimizer = torch.optim.AdamW([parameter], lr, (beta1, beta2), eps, weight_decay)
    state = {"step": torch.tensor(step - 1.0), "exp_avg": exp_avg.clone(), "exp_avg_sq": exp_avg_sq.clone()}
    optimizer.state[parameter] = state
    optimizer.step()
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


def muon(p, grad, momentum, second_momentum, mu, lr, weight_decay, beta2, steps):
    momentum = momentum.lerp(grad, 1 - mu)
    x = newton_schulz(grad.lerp(momentum, mu), steps)
    axis = 2 if p.shape[1] >= p.shape[2] else 1
    second_momentum = second_momentum.lerp(x.square().mean(axis, keepdim=True), 1 - beta2)
    y = x / second_momentum.clamp(min=1e-10).sqrt()
    norm_x, norm_y = (torch.linalg.matrix_norm(m, keepdim=True) for m in (x, y))
    y = y * norm_x / norm_y.clamp(min=1e-10)
    return p - lr * (y + weight_decay * torch.where(y * p >= 0, p, 0.0)), momentum, second_momentum


def value_gate(v, ve, gate):
    return v.addcmul(ve, 2 * gate.sigmoid().unsqueeze(-1))


def norm(x, eps):
    return F.rms_norm(x, x.shape[-1:], eps=eps)


def residual_norm(x, x0, a, b, eps):
    mixed = torch.addcmul(a * x, x0, b)
    return mixed, norm(mixed, eps)


EXPRESSIONS = {
    "rms_norm": norm,
    "rope": rope,
    "attention_mask": mask,
    "windowed_attention": attention,
    "newton_schulz": newton_schulz,
    "softcap_cross_entropy": cross_entropy,
    "relu_squared": lambda x: F.relu(x).pow(2),
    "value_gate": value_gate,
    "residual_mix": lambda x, x0, a, b: a * x + b * x0,
    "adamw_update": adamw,
    "muon_update": muon,
    "qk_prelude": lambda q, k, cos, sin, eps: (norm(rope(q, cos, sin), eps), norm(rope(k, cos, sin), eps)),
    "residual_norm": residual_norm,
    "mlp": lambda x, w_fc, w_proj: F.linear(F.linear(x, w_fc).clamp(min=0) ** 2, w_proj),
    "loss_head": lambda x, w, *rest: cross_entropy(torch.einsum("nc,vc->nv", x, w), *rest),
}


def double(values):
    return {
        n: torch.from_numpy(np.asarray(v)) if isinstance(v, np.ndarray | np.generic) else v for n, v in values.items()
    }


def cases(target, kinds=("typical", "edge", "adversarial")):
    rng = np.random.default_rng(7)
    base = workload(target)
    for kind in kinds:
        yield base, oracle(target).inputs(base, rng, kind)
    for neighbour in oracle(target).neighbours(base, rng):
        yield neighbour, oracle(target).inputs(neighbour, rng, "typical")


def largest(tensor):
    return max(1e-300, float(tensor.double().abs().max())) if tensor.numel() else 1e-300


@pytest.mark.parametrize("target", TARGETS)
def test_forward_is_the_definition(target):
    for _, values in cases(target):
        expected = EXPRESSIONS[target](*double(values).values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        actual = oracle(target).forward(values)
        assert len(actual) == len(expected) == len(contract(target)["outputs"])
        for ours, theirs in zip(actual, expected, strict=True):
            # The two summation orders of an iteration or of cancelling sums differ by some hundred float64 roundings.
            scale = largest(theirs)
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-10 * scale + 1e-14)


@pytest.mark.parametrize("target", DIFFERENTIABLE)
def test_backward_is_what_autograd_gives(target):
    names = [arg["name"] for arg in contract(target)["args"] if arg.get("grad")]
    rng = np.random.default_rng(8)
    for _, values in cases(target):
        g = tuple(rng.standard_normal(y.shape) for y in oracle(target).forward(values))
        args = double(values)
        leaves = [args[name].requires_grad_() for name in names]
        expected = torch.autograd.grad(EXPRESSIONS[target](*args.values()), leaves, [torch.from_numpy(c) for c in g])
        actual = oracle(target).backward(values, g)
        assert sorted(actual) == sorted(names)
        for name, theirs in zip(names, expected, strict=True):
            scale = largest(theirs)
            np.testing.assert_allclose(
                actual[name], theirs.numpy(), rtol=1e-8, atol=1e-10 * scale + 1e-14, err_msg=name
            )


@pytest.mark.parametrize("target", DIFFERENTIABLE)
def test_backward_is_the_slope(target):
    """A central difference along a random direction, without any autograd."""
    rng = np.random.default_rng(9)
    values = oracle(target).inputs(workload(target), rng, "typical")
    g = tuple(rng.standard_normal(y.shape) for y in oracle(target).forward(values))
    gradients = oracle(target).backward(values, g)
    step = 1e-6
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        ahead, behind = ({**values, name: values[name] + s * step * direction} for s in (1, -1))
        slope = sum(
            np.sum(c * (a - b)) / (2 * step)
            for c, a, b in zip(g, oracle(target).forward(ahead), oracle(target).forward(behind), strict=True)
        )
        assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("target", TARGETS)
def test_not_finite_inputs_have_the_outcome_of_the_baseline(target):
    """What the oracle says about NaN and Inf is what the definition's arithmetic gives in float32 too."""
    rng = np.random.default_rng(10)
    case = workload(target)
    for _ in range(4):
        values = oracle(target).inputs(case, rng, "nonfinite")
        args = arguments(case, values)
        exact = {name: wide(value) for name, value in args.items()}
        reference = oracle(target).forward(exact)
        g = tuple(np.ones(y.shape) for y in reference) if target in DIFFERENTIABLE else None
        outputs, gradients = run(kernel(target, "torch_eager"), args, g)
        if target != "attention_mask":
            assert not all(np.isfinite(v).all() for v in values.values() if isinstance(v, np.ndarray))
        for ours, theirs in zip(reference, outputs, strict=True):
            assert np.array_equal(np.isnan(ours), np.isnan(theirs)) and np.array_equal(np.isinf(ours), np.isinf(theirs))
        if g:
            for name, ours in oracle(target).backward(exact, g).items():
                assert np.array_equal(np.isfinite(ours), np.isfinite(gradients[name])), name


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_fit_the_workload_and_follow_the_seed(target):
    for case in [workload(target), *oracle(target).neighbours(workload(target), np.random.default_rng(0))]:
        for kind in ("typical", "edge", "adversarial", "nonfinite"):
            first, second = (oracle(target).inputs(case, np.random.default_rng(3), kind) for _ in range(2))
            for spec in case["args"]:
                value = first[spec["name"]]
                if spec["kind"] == "array":
                    assert value.shape == tuple(spec["shape"]), (spec["name"], kind)
                    assert value.dtype == (np.int64 if spec["dtype"] == "int64" else np.float64)
                np.testing.assert_array_equal(value, second[spec["name"]])
    with pytest.raises(ValueError, match="unknown kind"):
        oracle("rms_norm").inputs(workload("rms_norm"), np.random.default_rng(0), "odd")


@pytest.mark.parametrize("target", TARGETS)
def test_cost_is_counted_in_both_directions(target):
    flops, nbytes = oracle(target).cost(workload(target))
    assert flops > 0 and nbytes > 0
    flops, nbytes = oracle(target).cost(workload(target), "backward")
    assert (flops > 0 and nbytes > 0) == (target in DIFFERENTIABLE)


def test_cost_of_known_cases():
    assert oracle("relu_squared").cost(workload("relu_squared")) == (2 * 2 * 9 * 128, 2 * 4 * 2 * 9 * 128)
    # 33 queries, window 16: 1 + 2 + ... + 17 and sixteen times 17 pairs; two products of 2 flops per channel and pair.
    pairs = 17 * 18 // 2 + 16 * 17
    assert oracle("windowed_attention").cost(workload("windowed_attention"))[0] == 2 * 2 * pairs * 16 * 4


def test_mean_over_no_target_is_nan_with_zero_gradients():
    values = {"logits": np.ones((3, 5)), "targets": np.full(3, -1), "softcap": 15.0, "reduction": "mean"}
    assert np.isnan(oracle("softcap_cross_entropy").forward(values)[0])
    gradient = oracle("softcap_cross_entropy").backward(values, (np.float64(1.0),))["logits"]
    np.testing.assert_array_equal(gradient, 0.0)
