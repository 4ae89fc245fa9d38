"""The cases that are drawn: right dtypes and shapes, every kind, nothing the same twice unless asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoresearch_common import workload as w
from autoresearch_common.arrays import storage
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_lab.verify.cases import SECOND_PATTERN, elements, rounded, shadow, with_dtype
from autoresearch_lab.verify.plan import KINDS, ONWARD, Planner
from autoresearch_lab.verify.reference import References
from autoresearch_lab.verify.small import small_workloads
from autoresearch_lab.workloads import WorkloadSet
from autoresearch_trainer.jobs.calls import ResultName

CATALOG = load_catalog(Root())


def _workloads() -> WorkloadSet:
    shape = (2, 16, 2, 32)
    specs = [
        {"name": name, "kind": "array", "dtype": "bfloat16", "shape": list(s), "strides": w.contiguous(s), "grad": True}
        for name, s in (("v", shape), ("ve", shape), ("gate", shape[:3]))
    ]
    workload = {
        "id": "value_gate-0", "target": "value_gate", "args": specs, "phase": "forward", "calls_per_step": 1.0,
        "sample": None,
    }  # fmt: skip
    return WorkloadSet("value_gate", "cpu", "test", {}, [workload], "0" * 64, Path("/nowhere/value_gate.json"))


def _cases(seed: int) -> list:
    return Planner(CATALOG["value_gate"], _workloads(), np.random.default_rng(seed)).cases()


def test_one_seed_gives_one_plan() -> None:
    first, second = _cases(1), _cases(1)
    assert [case.id for case in first] == [case.id for case in second]
    for one, two in zip(first, second, strict=True):
        for a, b in zip(one.steps, two.steps, strict=True):
            assert all(a.contents.arrays[n].tobytes() == b.contents.arrays[n].tobytes() for n in a.contents.arrays)


def test_another_seed_gives_other_values_and_other_held_out_shapes() -> None:
    shapes = {tuple(case.shapes() for case in _cases(seed) if case.group == "held_out") for seed in range(3)}
    assert len(shapes) == 3


def test_every_group_and_kind_is_there() -> None:
    cases = _cases(1)
    assert {case.group for case in cases} == {"accuracy", "gradients", "odd", "combinations", "held_out"}
    odd = [case for case in cases if case.group == "odd"]
    assert {step.contents.kind for case in odd for step in case.steps} == set(KINDS)
    dtypes = {spec["dtype"] for case in odd for spec in case.specs}
    assert dtypes == {"bfloat16", "float16", "float32"}
    alone = [case.grad for case in cases if case.id.startswith("gradients/only")]
    assert alone == [("v",), ("ve",), ("gate",)]
    assert sum(case.spied for case in cases) == 1


def test_captured_contents_come_three_times_at_one_address_then_others() -> None:
    case = _cases(1)[0]
    first, second, third, typical, exchanged = case.steps
    assert first.contents is second.contents is third.contents
    assert (first.pattern, second.pattern) == (third.pattern, SECOND_PATTERN)
    assert [step.judged for step in case.steps] == [True, False, False, True, True]
    assert typical.contents.arrays["v"].tobytes() != first.contents.arrays["v"].tobytes()
    before, after = first.contents.arrays["v"].reshape(-1), exchanged.contents.arrays["v"].reshape(-1)
    assert 0 < np.count_nonzero(before != after) <= 32
    assert np.array_equal(np.sort(before), np.sort(after))
    assert (before[0], before[-1]) == (after[0], after[-1])


def test_captured_contents_come_without_gradients_too() -> None:
    cases = {case.id: case for case in _cases(1)}
    plain, other = cases["captured/0"], cases["captured/0 gradients switched off"]
    assert other.group == "accuracy" and other.mode == "no_grad" and other.grad == ()
    assert other.steps[0].contents is plain.steps[0].contents


def test_an_evaluation_asks_for_the_other_reduction_too() -> None:
    target = CATALOG["loss_head"]
    cases = Planner(target, small_workloads(target, "cpu"), np.random.default_rng(0)).cases()
    (case,) = [case for case in cases if case.id == "captured/0 gradients switched off"]
    assert {step.contents.scalars["reduction"] for step in case.steps} == {"mean", "none"}


def test_arrays_have_the_dtype_and_shape_of_their_specs() -> None:
    for case in _cases(2):
        for step in case.steps:
            for spec in case.specs:
                array = step.contents.arrays[spec["name"]]
                assert array.dtype == storage(spec["dtype"])
                assert list(array.shape) == spec["shape"]
            if step.contents.cotangents is not None:
                assert step.contents.cotangents[0].shape == tuple(case.specs[0]["shape"])


def test_an_expanded_axis_holds_one_value() -> None:
    spec = {"name": "x", "kind": "array", "dtype": "float32", "shape": [3, 4], "strides": [0, 1], "grad": False}
    arrays, _ = rounded({"x": np.arange(12.0).reshape(3, 4)}, [spec])
    assert (arrays["x"] == np.arange(4.0)).all()


def test_the_dtype_changes_wherever_the_main_one_is_used() -> None:
    workload = _workloads().workloads[0]
    workload["args"][2]["dtype"] = "float32"
    assert [spec["dtype"] for spec in with_dtype(workload, "float16")["args"]] == ["float16", "float16", "float32"]
    assert elements(workload) == 2 * 2 * 16 * 2 * 32 + 2 * 16 * 2


def test_a_shadow_is_a_hundredth_away_at_most() -> None:
    contents = _cases(1)[0].steps[0].contents
    moved = shadow(contents, np.random.default_rng(0))
    before, after = (c.arrays["v"].astype(np.float64) for c in (contents, moved))
    assert (before != after).any()
    assert np.max(np.abs(after / before - 1.0)) <= 2.0**-6


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_every_target_has_reference_operators_or_none_worth_naming(name: str) -> None:
    from autoresearch_lab.verify.reference_ops import REFERENCE_OPS

    assert all(operator.startswith("aten::") for operator in REFERENCE_OPS.get(name, ()))
    assert set(REFERENCE_OPS) <= set(CATALOG)


def test_a_large_call_has_shadows_where_a_gradient_is_a_single_number() -> None:
    """Such a sum may cancel, and then its own size is no measure of its error."""
    stream, factor = (4, 256, 129), ()
    specs = [
        {"name": name, "kind": "array", "dtype": dtype, "shape": list(s), "strides": w.contiguous(s), "grad": True}
        for name, dtype, s in (
            *((name, "bfloat16", stream) for name in ("x", "x0")),
            *((name, "float32", factor) for name in ("resid_lambda", "x0_lambda")),
        )
    ]
    for grad, expected in ((True, True), (False, False)):
        args = [{**spec, "grad": grad or bool(spec["shape"])} for spec in specs]
        workload = {
            "id": "residual_mix-0", "target": "residual_mix", "args": args, "phase": "forward", "calls_per_step": 1.0,
            "sample": None,
        }  # fmt: skip
        calls = WorkloadSet("residual_mix", "cpu", "test", {}, [workload], "0" * 64, Path("/nowhere/x.json"))
        captured = Planner(CATALOG["residual_mix"], calls, np.random.default_rng(1)).cases()[0]
        assert elements(captured.workload) > 1 << 17
        assert any(step.shadows for step in captured.steps) == expected


def test_rows_of_data_count_where_the_result_has_more() -> None:
    """The gradient of a loss head's weights over one row of data is one rounding, however many classes there are."""
    target = CATALOG["loss_head"]
    cases = Planner(target, small_workloads(target, "cpu"), np.random.default_rng(0)).cases()
    single = next(case for case in cases if "x bfloat16 (1, " in case.shapes())
    assert single.rows((512, 32)) == 1 and cases[0].rows((512, 32)) == 48 and cases[0].rows(()) == 1


def test_steps_of_an_optimizer_follow_on_what_the_one_before_left() -> None:
    target = CATALOG["adamw_update"]
    planned = Planner(target, small_workloads(target, "cpu"), np.random.default_rng(0)).cases()
    (case,) = [case for case in planned if case.onward]
    assert case.updated == ("p", "exp_avg", "exp_avg_sq") and case.onward == ONWARD
    step = case.steps[0]
    args = step.contents.widened()
    for number in range(ONWARD + 1):
        outputs = target.oracle.forward(args)
        args = {**args, **dict(zip(case.updated, outputs, strict=True)), "grad": np.zeros_like(args["grad"])}
        args["step"] = step.contents.scalars["step"] + number + 1
    found = References(target.oracle).of(case, step)
    assert all(np.array_equal(found[ResultName.output(place)].value, outputs[place]) for place in range(3))
    mlx = Planner(target, small_workloads(target, "mlx"), np.random.default_rng(0)).cases()
    assert sum(bool(case.onward) for case in mlx) == 1
