"""The timer: units, known durations, fresh contents at fixed addresses, and caches that it brings to light."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from autoresearch_cuda.probe import JOBS
from autoresearch_cuda.probe.observers import peak_bytes
from autoresearch_cuda.probe.stopwatch import Call, Stopwatch
from autoresearch_cuda.probe.tensors import Buffer, build, probe, rolled
from autoresearch_trainer.errors import KernelChanged
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.probe.load import ForeignLoad

pytestmark = pytest.mark.alone

CPU = torch.device("cpu")
EAGER = "def relu_squared(x):\n    return torch.relu(x).square()\n"
NO_OP = "def relu_squared(x):\n    return x\n"
SLEEP = "import time\ndef relu_squared(x):\n    time.sleep({seconds})\n    return torch.relu(x).square()\n"
CACHE = """
last = {}
def relu_squared(x):
    if x.data_ptr() not in last:
        last[x.data_ptr()] = torch.relu(x.detach()).square()
    return last[x.data_ptr()] + 0 * x
"""


def spec(name="x", shape=(16, 8), dtype="float32", grad=True, strides=None):
    strides = strides or list(torch.empty(shape).stride())
    return {"name": name, "kind": "array", "dtype": dtype, "shape": list(shape), "strides": strides, "grad": grad}


def kernel(folder: Path, name: str, source: str) -> dict[str, str]:
    path = folder / f"{name}.py"
    path.write_text("import torch\n" + source, encoding="utf-8")
    return KernelFile.at("relu_squared", path, name).to_json()


def time_arms(folder: Path, arms: list[dict[str, str]], gradient=True, **changes):
    torch.manual_seed(0)
    save_file({"w/x": torch.randn(16, 8)}, str(folder / "inputs.safetensors"))
    workload = {"id": "w", "args": [spec(grad=gradient)], "gradient": gradient, "shifts": [1, 2, 5]}
    args = {
        "arms": arms, "inputs": str(folder / "inputs.safetensors"), "workloads": [workload], "seconds": 0.05,
        "least_rounds": 3, "most_rounds": 5, "seed": 1, "checked": 2, "memory": False, "calls": None, **changes,
    }  # fmt: skip
    messages: list[dict] = []
    result = JOBS["time"](args, folder, messages.append)
    json.dumps(result, allow_nan=False)
    return result, messages


def test_it_is_never_silent_for_longer_than_one_arm_or_one_round_takes(tmp_path):
    arms = [kernel(tmp_path, "eager", EAGER), kernel(tmp_path, "other", EAGER)]
    result, messages = time_arms(tmp_path, arms)
    stages = [message["stage"] for message in messages]
    rounds = len(result["samples"])
    assert stages == ["warm-up", "warm-up", "warm-up", "measure", *["round"] * rounds, "measured"]
    assert [message["done"] for message in messages if message["stage"] == "warm-up" and "done" in message] == [1, 2]


def test_a_sleep_of_known_length_comes_out_in_nanoseconds(tmp_path):
    arms = [kernel(tmp_path, "eager", EAGER), kernel(tmp_path, "sleep", SLEEP.format(seconds=0.02))]
    result, messages = time_arms(tmp_path, arms, gradient=False)
    samples = np.array(result["samples"])  # round, visit, arm, workload, direction
    assert samples.shape[1:] == (2, 2, 1, 2)
    slept = samples[:, :, 1, 0, 0]
    assert slept.min() >= 20e6 and np.median(slept) < 40e6
    assert np.median(samples[:, :, 0, 0, 0]) < 5e6
    assert np.all(samples[..., 1] == 0)
    assert np.array(result["clean"]).shape == samples.shape[:-1]
    assert all(row["samples"] == 2 * len(samples) and row["unclean"] <= row["samples"] for row in result["disturbed"])
    assert result["timed_seconds"] <= result["span_seconds"]
    assert messages[-1]["stage"] == "measured"


def test_a_no_op_costs_next_to_nothing_and_gets_many_calls_per_sample(tmp_path):
    result, _ = time_arms(tmp_path, [kernel(tmp_path, "no_op", NO_OP)], gradient=False)
    assert np.median(np.array(result["samples"])[:, :, 0, 0, 0]) < 50e3
    assert result["window_ns"] < 5e3
    assert result["calls"] == [16]


def test_backward_is_timed_apart_from_forward(tmp_path):
    slow_backward = """
import time
class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.relu(x).square()
    @staticmethod
    def backward(ctx, g):
        time.sleep(0.02)
        return 2 * torch.relu(ctx.saved_tensors[0]) * g
def relu_squared(x):
    return Slow.apply(x)
"""
    arms = [kernel(tmp_path, "eager", EAGER), kernel(tmp_path, "slow", slow_backward)]
    result, _ = time_arms(tmp_path, arms)
    forward, backward = np.median(np.array(result["samples"])[:, :, 1, 0], axis=(0, 1))
    assert backward >= 20e6 > forward


def test_every_round_visits_arms_in_an_order_and_its_reverse(tmp_path):
    arms = [kernel(tmp_path, f"k{i}", EAGER) for i in range(3)]
    result, _ = time_arms(tmp_path, arms, most_rounds=5, seconds=5.0)
    assert len(result["samples"]) == 5
    assert all(sorted(order) == [0, 1, 2] for visited in result["orders"] for _, order in visited)
    assert len({tuple(order) for visited in result["orders"] for _, order in visited}) > 1


def test_outputs_of_timed_calls_are_kept_with_what_later_calls_give(tmp_path):
    time_arms(tmp_path, [kernel(tmp_path, "eager", EAGER), kernel(tmp_path, "cache", CACHE)])
    kept = load_file(tmp_path / "outputs.safetensors")
    assert {name.split("/")[0] for name in kept} == {"timed", "again", "reference"}
    honest = [name for name in kept if name.startswith("timed/0/")]
    assert len(honest) == 4  # two slots, output and gradient
    for name in honest:
        rest = name.removeprefix("timed/")
        assert torch.equal(kept[name], kept[f"again/{rest}"]) and torch.equal(kept[name], kept[f"reference/{rest}"])
    cached = [name.removeprefix("timed/") for name in kept if name.startswith("timed/1/") and name.endswith("/0")]
    assert any(not torch.allclose(kept[f"timed/{name}"], kept[f"reference/{name}"], rtol=0.05) for name in cached)


def test_a_gradient_of_one_number_is_kept_as_one(tmp_path):
    """It is a sum that may cancel, and is judged by the size of its like; that it is one shows in what is kept."""
    source = tmp_path / "scaled.py"
    source.write_text("def residual_mix(x, x0, a, b):\n    return a * x + b * x0\n", encoding="utf-8")
    specs = [spec("x"), spec("x0"), spec("a", shape=()), spec("b", shape=())]
    arrays = {"w/x": torch.randn(16, 8), "w/x0": torch.randn(16, 8), "w/a": torch.tensor(0.9), "w/b": torch.tensor(0.1)}
    save_file(arrays, str(tmp_path / "inputs.safetensors"))
    args = {
        "arms": [KernelFile.at("residual_mix", source, "scaled").to_json()], "seconds": 0.05, "least_rounds": 3,
        "inputs": str(tmp_path / "inputs.safetensors"), "most_rounds": 3, "seed": 1, "checked": 2, "memory": False,
        "workloads": [{"id": "w", "args": specs, "gradient": True, "shifts": [1, 2, 5]}],
    }  # fmt: skip
    JOBS["time"](args, tmp_path, lambda message: None)
    sizes = {name.split("/")[-1]: value.numel() for name, value in load_file(tmp_path / "outputs.safetensors").items()}
    assert sizes == {"0": 514, "1": 514, "2": 514, "3": 1, "4": 1}


def test_every_content_meets_every_cotangent():
    """Else there were as many values of a gradient of one number as contents, and all might cancel."""
    call = Call({"id": "w", "args": [spec()], "gradient": True, "shifts": [1, 2, 5]}, {"x": torch.randn(16, 8)}, CPU)
    output = torch.relu(call.arguments[0])
    pairs = {(number % 3, float(call.cotangents([output], number)[0].sum())) for number in range(12)}
    assert len(pairs) == 12


def test_a_least_number_of_calls_can_be_given(tmp_path):
    slow = kernel(tmp_path, "slow", SLEEP.format(seconds=0.01))
    result, _ = time_arms(tmp_path, [slow], gradient=False, calls=[2])
    assert result["calls"] == [2]


def test_a_changed_kernel_is_refused(tmp_path):
    arm = kernel(tmp_path, "eager", EAGER)
    kernel(tmp_path, "eager", NO_OP)
    with pytest.raises(KernelChanged):
        time_arms(tmp_path, [arm])


def test_contents_change_at_fixed_addresses_and_in_place_arguments_start_afresh():
    workload = {"id": "w", "args": [spec(grad=False)], "gradient": False, "shifts": [1, 2, 3]}
    call = Call(workload, {"x": torch.rand(16, 8) + 1}, CPU)
    seen = []

    def spoil(x):
        seen.append((x.data_ptr(), x.clone()))
        return x.zero_()

    watch = Stopwatch()
    for number in (0, 1, 2, 3, 3):
        watch.measure(spoil, call, number)
    assert len({address for address, _ in seen}) == 1
    contents = [content for _, content in seen]
    assert torch.equal(contents[3], contents[4]) and contents[3].min() > 0
    assert all(not torch.equal(contents[a], contents[b]) for a in range(4) for b in range(a))
    assert not torch.allclose(contents[0].sum(), contents[3].sum())  # one roll, another scale


@pytest.mark.parametrize("strides", [[8, 1], [1, 16], [32, 2], [0, 1]])
def test_tensors_are_laid_out_as_the_spec_says(strides):
    content = torch.arange(128.0).reshape(16, 8)
    if strides[0] == 0:
        content = content[:1].expand(16, 8)
    tensor = build(spec(strides=strides), content, needs_grad=True)
    assert list(tensor.stride()) == strides and tensor.requires_grad and tensor.is_leaf
    assert torch.equal(tensor, content)


def test_overlapping_strides_are_refused():
    with pytest.raises(ValueError, match="overlap"):
        Buffer(spec(shape=(4, 4), strides=[1, 1]), CPU, needs_grad=False)


def test_scaling_leaves_integers_alone_and_rolling_keeps_values():
    content = torch.arange(6).reshape(3, 2)
    buffer = Buffer(spec(shape=(3, 2), dtype="int64", grad=False), CPU, needs_grad=True)
    buffer.fill(content, 0.5)
    assert torch.equal(buffer.tensor, content) and not buffer.tensor.requires_grad
    assert rolled(content, 1).tolist() == [[4, 5], [0, 1], [2, 3]]
    assert rolled(torch.tensor(3.0), 5).tolist() == 3.0


def test_probe_gives_elements_and_means():
    values = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    assert probe(values, torch.tensor([0, 3, 6])).tolist() == [1.0, -4.0, 3.0, -0.5, 2.5]
    assert probe(torch.zeros(0), torch.tensor([1])).numel() == 0
    assert probe(torch.tensor(2.5), torch.tensor([0, 3])).tolist() == [2.5]


def test_peak_memory_counts_what_is_held_at_once():
    peak = peak_bytes(lambda: [torch.zeros(1 << 18) for _ in range(3)], CPU)
    assert peak is None or 3 << 20 <= peak < 4 << 20


def test_foreign_load_is_a_share():
    load = ForeignLoad()
    share = None
    for _ in range(200):
        torch.randn(200, 200) @ torch.randn(200, 200)
        share = load.since_last()
        if share is not None:
            break
    assert share is None or 0.0 <= share <= 1.0
