"""A workload must describe the call exactly, before the kernel could change anything."""

import pytest
import torch
from safetensors.torch import load_file

from autoresearch_cuda.probe.capture import Capture, argument_spec, leading_rows
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.tracing import TargetInfo
from autoresearch_trainer.probe.capture import workload_id

TARGETS = {
    "rope": TargetInfo(("x", "cos", "sin"), "forward"),
    "rms_norm": TargetInfo(("x", "eps"), "forward"),
    "adamw_update": TargetInfo(("p", "grad", "lr"), "optimizer"),
}


def test_spec_of_a_view_keeps_its_strides_and_type():
    view = torch.zeros(2, 3, 4, 5, dtype=torch.bfloat16).transpose(1, 2)
    assert argument_spec("x", view) == {
        "name": "x",
        "kind": "array",
        "dtype": "bfloat16",
        "shape": [2, 4, 3, 5],
        "strides": [60, 5, 20, 1],
        "grad": False,
    }


def test_gradient_is_needed_only_where_it_is_recorded():
    x = torch.zeros(2, requires_grad=True)
    assert argument_spec("x", x)["grad"] is True
    with torch.no_grad():
        assert argument_spec("x", x)["grad"] is False


@pytest.mark.parametrize("value", [1, 0.5, "mean", True])
def test_scalars_stay_what_they_are(value):
    assert argument_spec("s", value) == {"name": "s", "kind": "scalar", "value": value}


def test_other_values_are_refused():
    with pytest.raises(ConfigError, match="argument x is a list"):
        argument_spec("x", [1])


def test_id_depends_on_every_part_of_the_call():
    base = [argument_spec("x", torch.zeros(4, 6)), argument_spec("eps", 1e-6)]
    others = [
        [argument_spec("x", torch.zeros(6, 4).t()), base[1]],
        [argument_spec("x", torch.zeros(4, 6).bfloat16()), base[1]],
        [argument_spec("x", torch.zeros(4, 6, requires_grad=True)), base[1]],
        [base[0], argument_spec("eps", 1e-5)],
    ]
    ids = {workload_id("rms_norm", specs) for specs in [base, *others]}
    assert len(ids) == 5
    assert workload_id("rms_norm", base) == workload_id("rms_norm", [dict(spec) for spec in base])


def test_leading_rows_are_a_copy_within_the_limit():
    x = torch.arange(40.0).reshape(10, 4)
    rows = leading_rows(x.t().contiguous().t(), limit=3 * 16)
    x.zero_()
    assert rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert rows.is_contiguous()
    assert leading_rows(torch.zeros(3, 100), limit=8).shape == (1, 100)
    assert leading_rows(torch.tensor(2.0)).item() == 2.0
    assert leading_rows(torch.empty(0)).shape == (0,)


def test_equal_calls_are_one_workload_and_in_place_kernels_cannot_touch_the_sample(tmp_path):
    capture = Capture(TARGETS)
    p, grad = torch.ones(3), torch.full((3,), 2.0)
    for _ in range(4):
        capture.record("adamw_update", (p, grad, 0.1), {}, in_step=True)
        p.mul_(10)
    capture.record("adamw_update", (p, grad), {"lr": 0.2}, in_step=True)
    first, second = capture.write(tmp_path)["adamw_update"]
    assert (first["calls_per_step"], second["calls_per_step"], first["phase"]) == (4.0, 1.0, "optimizer")
    values = load_file(tmp_path / first["sample"]["file"])
    assert values[f"{first['id']}/p"].tolist() == [1, 1, 1]
    assert values[f"{second['id']}/p"].tolist() == [1e4] * 3


def test_what_is_called_only_before_the_step_counts_as_no_call(tmp_path):
    capture = Capture(TARGETS)
    capture.record("rms_norm", (torch.ones(2, 4), 1e-6), {}, in_step=False)
    capture.record("rope", (torch.ones(2),) * 3, {}, in_step=False)
    capture.record("rope", (torch.ones(5),) * 3, {}, in_step=True)
    found = capture.write(tmp_path)
    assert [w["calls_per_step"] for w in found["rms_norm"]] == [0.0]
    assert [w["args"][0]["shape"] for w in found["rope"]] == [[5]]
    assert "adamw_update" not in found


def test_arguments_that_the_contract_does_not_name_are_refused():
    with pytest.raises(ConfigError, match="other arguments"):
        Capture(TARGETS).record("rms_norm", (torch.ones(2),), {"epsilon": 1}, in_step=True)
    with pytest.raises(ConfigError, match="other arguments"):
        Capture(TARGETS).record("rms_norm", (torch.ones(2), 1, 2), {}, in_step=True)
