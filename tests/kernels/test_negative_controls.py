"""Results that must not pass: zeros, the input itself, a dropped tile or row, one precision lower, one step too few.

A target is only worth having if its tolerance tells these from an honest kernel.
"""

import numpy as np
import pytest
import torch
from kernel_cases import allowed, arguments, cotangents, error, kernel, oracle, output_dtypes, run, wide, workload

from autoresearch_trainer.kernel_files import TARGETS

FLOATING = [target for target in TARGETS if target != "attention_mask"]


def judge(target, dtype, kind="typical"):
    """Reference, first output of the baseline, its limit, and the same for every gradient, by name."""
    case = workload(target, dtype)
    if target in ("softcap_cross_entropy", "loss_head"):
        next(spec for spec in case["args"] if spec["name"] == "reduction")["value"] = "none"
    rng = np.random.default_rng(1)
    args = arguments(case, oracle(target).inputs(case, rng, kind))
    exact = {name: wide(value) for name, value in args.items()}
    reference = oracle(target).forward(exact)
    g = cotangents(case, reference, rng) if any(spec.get("grad") for spec in case["args"]) else None
    outputs, gradients = run(kernel(target, "torch_eager"), args, g)
    judged = {
        f"output {index}": (right, allowed(target, out_dtype, error(ours, right)))
        for index, (ours, right, out_dtype) in enumerate(zip(outputs, reference, output_dtypes(case), strict=True))
    }
    dtypes = {spec["name"]: spec.get("dtype") for spec in case["args"]}
    for name, right in (oracle(target).backward(exact, g) if g else {}).items():
        judged[f"gradient of {name}"] = (right, allowed(target, dtypes[name], error(gradients[name], right)))
    return exact, judged


def coarser(values, dtype):
    """Rounded to the next smaller type: bfloat16 for float32, three bits of mantissa for the 16-bit types."""
    if dtype == "float32":
        return torch.from_numpy(np.array(values)).bfloat16().double().numpy()
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 16) / 16, exponent)


def lower_precision(target, exact, right, dtype):
    """The result in the next smaller type; newton_schulz rounds at every step, and so does a worse one."""
    if target != "newton_schulz":
        return coarser(right, dtype)
    x = exact["g"]
    for a, b, c in oracle(target).COEFFICIENTS[: exact["steps"]]:
        if x is exact["g"]:
            x = x / (np.sqrt(np.sum(x * x, axis=(1, 2), keepdims=True)) * 1.02 + 1e-6)
        x = coarser(x, dtype)
        gram = coarser(x @ x.swapaxes(1, 2), dtype)
        x = a * x + coarser(b * gram + c * (gram @ gram), dtype) @ x
    return coarser(x, dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", FLOATING)
def test_wrong_results_are_beyond_the_tolerance(target, dtype):
    exact, judged = judge(target, dtype)
    precise = "bfloat16" if target == "newton_schulz" else dtype
    for what, (right, limit) in judged.items():
        assert error(right, right) == 0.0
        assert error(np.zeros_like(right), right) > limit, f"zeros as {what}"
        rough = lower_precision(target, exact, right, precise)
        # The gradient of a plain sum is the cotangent itself, which is short enough for any type; muon_update has its
        # own test for what the error of its bfloat16 iteration hides here; the gradient through a norm is orthogonal to
        # the stream, so that of a factor is a sum of all elements that cancels down to their roundings.
        hidden = np.array_equal(rough, right) or (target == "muon_update" and what != "output 1")
        hidden = hidden or (target == "residual_norm" and "lambda" in what)
        assert hidden or error(rough, right) > limit, f"one precision lower in {what}"
        assert error(right * 1.1, right) > limit, f"a wrong factor in {what}"
        if right.ndim and right.size > 8:
            tile = right.copy()
            tile.reshape(-1)[-8:] = 0.0
            assert error(tile, right) > limit, f"a dropped tile in {what}"
        if right.ndim > 1:
            row, stale = right.copy(), right.copy()
            row.reshape(-1, right.shape[-1])[-1] = 0.0
            stale.reshape(-1, right.shape[-1])[-1] = right.reshape(-1, right.shape[-1])[0]
            assert error(row, right) > limit, f"a dropped row in {what}"
            assert error(stale, right) > limit or np.array_equal(stale, right), f"a row of another one in {what}"
    for name, value in exact.items():
        right, limit = judged["output 0"]
        if isinstance(value, np.ndarray) and value.shape == right.shape:
            assert error(value, right) > limit, f"the argument {name} unchanged"


@pytest.mark.parametrize("window", [0, 15, 17, 33])
def test_a_window_off_by_one_is_seen(window):
    for dtype in ("float32", "bfloat16"):
        exact, judged = judge("windowed_attention", dtype, "adversarial")
        right, limit = judged["output 0"]
        assert error(oracle("windowed_attention").forward({**exact, "window": window})[0], right) > limit
    base = oracle("attention_mask").forward({"seq_len": 33, "window": 16})[0]
    assert not np.array_equal(oracle("attention_mask").forward({"seq_len": 33, "window": window})[0], base)


@pytest.mark.parametrize(
    ("target", "change"),
    [
        ("newton_schulz", {"steps": 4}),
        ("muon_update", {"steps": 4}),
        ("adamw_update", {"weight_decay": 0.0}),
        ("adamw_update", {"step": 4}),
        ("softcap_cross_entropy", {"softcap": 15.5}),
        ("rms_norm", {"eps": 1e-2}),
        ("qk_prelude", {"eps": 1e-2}),
        ("residual_norm", {"eps": 1e-2}),
        ("loss_head", {"softcap": 15.5}),
    ],
)
def test_a_wrong_scalar_is_seen(target, change):
    exact, judged = judge(target, "float32")
    wrong = oracle(target).forward({**exact, **change})
    assert any(error(ours, judged[f"output {i}"][0]) > judged[f"output {i}"][1] for i, ours in enumerate(wrong))


@pytest.mark.parametrize("change", [{"weight_decay": 0.0}, {"weight_decay": 0.4}])
def test_a_wrong_decay_is_seen_in_the_whole(change):
    """Where the update is nearly 0 its sign, and with it the decay, is chance: single elements prove nothing."""
    case, rng = workload("muon_update"), np.random.default_rng(1)
    args = arguments(case, oracle("muon_update").inputs(case, rng, "adversarial"))
    exact = {name: wide(value) for name, value in args.items()}
    right = oracle("muon_update").forward(exact)[0]
    baseline = run(kernel("muon_update", "torch_eager"), args)[0][0]
    wrong = oracle("muon_update").forward({**exact, **change})[0]
    assert np.linalg.norm(wrong - right) > 2 * np.linalg.norm(baseline - right)


@pytest.mark.parametrize("output", [0, 2])
def test_states_in_a_lower_precision_are_seen_where_nothing_is_learnt(output):
    """With no gradient and no momentum, weights and second momentum only decay, exactly."""
    case, rng = workload("muon_update"), np.random.default_rng(1)
    values = oracle("muon_update").inputs(case, rng, "typical")
    values.update(grad=np.zeros_like(values["grad"]), momentum=np.zeros_like(values["momentum"]))
    args = arguments(case, values)
    right = oracle("muon_update").forward({name: wide(value) for name, value in args.items()})[output]
    baseline = run(kernel("muon_update", "torch_eager"), args)[0][output]
    limit = allowed("muon_update", "float32", error(baseline, right))
    assert error(coarser(right, "float32"), right) > limit


def test_rotation_in_the_other_direction_is_seen():
    exact, judged = judge("rope", "bfloat16")
    right, limit = judged["output 0"]
    assert error(oracle("rope").forward({**exact, "sin": -exact["sin"]})[0], right) > limit


COMPOSITES = ["qk_prelude", "residual_norm", "mlp"]


@pytest.mark.parametrize(
    "target", ["rms_norm", "rope", "relu_squared", "residual_mix", "windowed_attention", *COMPOSITES]
)
def test_every_input_matters(target):
    """An input whose change the output does not show could be ignored by a kernel unnoticed."""
    exact, judged = judge(target, "bfloat16")
    for name, value in exact.items():
        if isinstance(value, np.ndarray):
            changed = oracle(target).forward({**exact, name: value + 0.5 * np.sign(value)})
            shown = [error(ours, judged[f"output {i}"][0]) > judged[f"output {i}"][1] for i, ours in enumerate(changed)]
            assert any(shown), name
