"""Ranking is by what could be saved, with the measured ceilings as the limit, and unknown stays unknown."""

from types import SimpleNamespace

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_lab.profile.rank import fastest_dtype, floor_ms, rank, work_per_step
from autoresearch_lab.results.base import Ceilings

CEILINGS = Ceilings(copy_gb_s=[(1 << 30, 100.0)], matmul_gflop_s={"float32": 100.0, "bfloat16": 1000.0})


def target(name, cost, replaces=(), outputs=("like:x",)):
    contract = SimpleNamespace(replaces=list(replaces), outputs=[SimpleNamespace(dtype=dtype) for dtype in outputs])
    return SimpleNamespace(name=name, contract=contract, oracle=SimpleNamespace(cost=cost))


def workload(calls=1.0, grad=True, dtype="float32"):
    return {"args": [{"name": "x", "kind": "array", "dtype": dtype, "grad": grad}], "calls_per_step": calls}


def times(total, calls=1.0):
    return {
        "forward_ms": total,
        "backward_ms": 0.0,
        "optimizer_ms": 0.0,
        "total_ms": total,
        "self_ms": total,
        "calls_per_step": calls,
    }


def copying(megabytes):
    """A target that moves this much in each direction and computes nothing."""
    return lambda workload, direction: (0, megabytes * 10**6)


def test_floor_is_bytes_over_bandwidth_each_way():
    found = target("t", copying(10))
    # 10 MB at 100 GB/s are 0.1 ms, forward and backward, twice per step.
    assert floor_ms(found, [workload(calls=2.0)], {}, CEILINGS) == pytest.approx(0.4)
    assert floor_ms(found, [workload(grad=False)], {}, CEILINGS) == pytest.approx(0.1)
    assert work_per_step(found, [workload(calls=2.0)]) == (0, 40e6)


def test_floor_is_flops_over_the_fastest_allowed_product():
    found = target("t", lambda workload, direction: (10**9, 8))
    assert floor_ms(found, [workload(grad=False)], {}, CEILINGS) == pytest.approx(10.0)
    assert floor_ms(found, [workload(grad=False, dtype="bfloat16")], {}, CEILINGS) == pytest.approx(1.0)


def test_a_part_that_may_round_lets_the_whole_use_the_faster_type():
    inner = target("inner", copying(1), outputs=("bfloat16",))
    outer = target("outer", copying(1), replaces=["inner"])
    assert fastest_dtype(outer, workload(), {"inner": inner}, CEILINGS) == "bfloat16"
    assert fastest_dtype(outer, workload(), {}, CEILINGS) == "float32"


def test_order_is_by_saveable_time_then_unknown():
    catalog = {
        "large_near_its_floor": target("large_near_its_floor", copying(900)),
        "small_far_from_it": target("small_far_from_it", copying(10)),
        "unknown": target("unknown", lambda w, d: (10**9, 8)),
    }
    calls = {name: [workload(grad=False, dtype="float16" if name == "unknown" else "float32")] for name in catalog}
    measured = {"large_near_its_floor": times(10.0), "small_far_from_it": times(5.0), "unknown": times(50.0)}
    rows = rank(measured, calls, catalog, CEILINGS, step_ms=100.0)
    assert [(row.target, row.rank) for row in rows] == [
        ("small_far_from_it", 1),
        ("large_near_its_floor", 2),
        ("unknown", 3),
    ]
    assert rows[0].saveable_ms == pytest.approx(4.9) and rows[0].share == pytest.approx(0.05)
    assert rows[1].gb_s == pytest.approx(90.0)
    assert rows[2].floor_ms is None and rows[2].saveable_ms is None and not rows[2].impossible


@pytest.mark.parametrize(("inside", "expected"), [(2.0, 5.9), (1.0, 2.95), (0.0, 0.2)])
def test_a_composite_can_save_what_its_parts_can_inside_it(inside, expected):
    outer = target("outer", lambda w, d: (98 * 10**7, 8), replaces=["inner"])
    catalog = {"outer": outer, "inner": target("inner", copying(10))}
    calls = {name: [workload(grad=False)] for name in catalog}
    measured = {"outer": times(10.0), "inner": {**times(6.0, 2.0), "within": {"outer": inside}}}
    rows = {row.target: row for row in rank(measured, calls, catalog, CEILINGS, 100.0)}
    assert rows["outer"].floor_ms == pytest.approx(9.8) and rows["outer"].includes == ["inner"]
    assert rows["outer"].saveable_ms == pytest.approx(expected)


def test_faster_than_possible_is_flagged_and_saves_nothing():
    catalog = {"t": target("t", copying(1000))}
    (row,) = rank({"t": times(5.0)}, {"t": [workload(grad=False)]}, catalog, CEILINGS, 100.0)
    assert row.floor_ms == pytest.approx(10.0) and row.impossible and row.saveable_ms == 0
    (row,) = rank({"t": times(9.8)}, {"t": [workload(grad=False)]}, catalog, CEILINGS, 100.0)
    assert not row.impossible and row.saveable_ms == 0


def test_without_ceilings_everything_is_unknown():
    catalog = {"t": target("t", copying(1))}
    (row,) = rank({"t": times(5.0)}, {"t": [workload()]}, catalog, Ceilings(), 100.0)
    assert row.floor_ms is None and row.bytes == 2e6


def test_a_target_that_is_never_called_comes_last_and_is_no_part_of_another():
    catalog = {"outer": target("outer", copying(1), replaces=["mask"]), "mask": target("mask", copying(1))}
    measured = {"mask": times(0.0, calls=0.0), "outer": times(5.0)}
    calls = {"mask": [workload(calls=0.0)], "outer": [workload()]}
    outer, mask = rank(measured, calls, catalog, CEILINGS, 100.0)
    assert mask.target == "mask" and mask.floor_ms == 0 and mask.gb_s is None and not mask.impossible
    assert outer.includes == []


def test_real_oracles_give_costs():
    catalog = load_catalog(Root())
    norm = {
        "target": "rms_norm",
        "args": [
            {"name": "x", "kind": "array", "dtype": "bfloat16", "shape": [8, 128], "strides": [128, 1], "grad": True},
            {"name": "eps", "kind": "scalar", "value": 1e-6},
        ],
        "calls_per_step": 3.0,
    }
    flops, moved = work_per_step(catalog["rms_norm"], [norm])
    assert flops > 0 and moved >= 3 * 5 * 8 * 128 * 2
