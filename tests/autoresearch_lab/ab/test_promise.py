"""What benchmarks promise of an A/B, by what they were made beside and by what the A/B compares."""

import pytest

from autoresearch_lab.ab.promise import Promise, promise
from autoresearch_lab.ab.require import standing
from autoresearch_lab.lab import Lab

ROWS = [("baseline", False, 90.0), ("library", True, 60.0), ("candidate", False, 40.0), ("graph", True, 45.0)]
STANDING = [("standing", False, 50.0), ("standing", True, 53.0)]
PREDICTED = {"saved_ms": 20.0, "step_ms": 100.0}


def timed(*rows):
    return [{"role": role, "name": role, "compiled": compiled, "ms": ms} for role, compiled, ms in rows]


@pytest.fixture
def found(lab):
    """found(candidates, other={}, compiled=False) -> Promise; both {target: kernel}, the baselines elsewhere."""

    def promised(candidates, other=None, compiled=False, of_candidate=None):
        modes = [compiled, compiled if of_candidate is None else of_candidate]
        here = Lab.of(lab.context, lab.root, lab.ledger)
        standings = [standing(lab.catalog[name], kernel, here) for name, kernel in candidates.items()]
        return promise(standings, lab.baseline.with_kernels(other or {}), lab.catalog, modes)

    return promised


def kernels(lab, **chosen):
    return {name: lab.catalog[name].kernel(one, "torch") for name, one in chosen.items()}


def benched_with(lab, kernel, **used):
    """Evidence of a bench made while the trainer used these kernels."""
    plain, lab.baseline = lab.baseline, lab.baseline.with_kernels(kernels(lab, **used))
    lab.evidence(kernel, predicted=PREDICTED, arms=timed(*ROWS, *STANDING))
    lab.baseline = plain


def test_uncompiled_bench_and_profile_say_it_and_compiled_the_bench_alone(lab, found):
    candidate = kernels(lab, mlp="torch_library")
    lab.evidence(candidate["mlp"], predicted=PREDICTED, arms=timed(*ROWS))
    assert found(candidate).saved(500.0) == (pytest.approx(0.2), "by bench and profile")
    share, basis = found(candidate, compiled=True).saved(150.0)
    assert share == pytest.approx(0.1) and basis == "by bench: 15.00 ms of the 150.0 ms measured in the other arm"
    assert found(candidate, compiled=True, of_candidate=False).why == "one arm is compiled and the other is not"
    beside = found(candidate, kernels(lab, rope="cpp_fused"))
    assert beside.share == pytest.approx(0.2)


def test_without_a_profile_the_bench_alone_says_it(lab, found):
    candidate = kernels(lab, mlp="torch_library")
    lab.evidence(candidate["mlp"], arms=timed(*ROWS))
    assert found(candidate).saved(200.0)[0] == pytest.approx(0.25)
    assert Promise(saved_ms=300.0).saved(200.0)[0] == 0.99


def test_a_composite_is_compared_with_its_promoted_parts_inside(lab, found):
    candidate, part = kernels(lab, mlp="torch_library"), kernels(lab, relu_squared="cpp_fused")
    benched_with(lab, candidate["mlp"], relu_squared="cpp_fused")
    assert found(candidate, part).share == pytest.approx(0.2)
    assert found(candidate, part, compiled=True).saved_ms == pytest.approx(8.0)
    # Against the baselines there is no profile that speaks of them, but there are their times.
    assert found(candidate).saved_ms == pytest.approx(50.0)
    assert found(candidate, compiled=True).saved_ms == pytest.approx(15.0)


def test_a_bench_beside_other_kernels_promises_nothing(lab, found):
    candidate, part = kernels(lab, mlp="torch_library"), kernels(lab, relu_squared="cpp_fused")
    lab.evidence(candidate["mlp"], predicted=PREDICTED, arms=timed(*ROWS))
    assert found(candidate, part).why == "the bench of mlp was made with other kernels in use; run it again"


def test_several_add_up_and_none_where_one_does_anothers_work(lab, found):
    both = kernels(lab, mlp="torch_library", rope="cpp_fused")
    for kernel in both.values():
        lab.evidence(kernel, predicted=PREDICTED, arms=timed(*ROWS))
    assert found(both).share == pytest.approx(0.4)
    assert found(both, kernels(lab, qk_prelude="torch_library")).why == "qk_prelude does the work of rope, too"
    lab.evidence(kernels(lab, relu_squared="cpp_fused")["relu_squared"], arms=timed(*ROWS))
    within = kernels(lab, mlp="torch_library", relu_squared="cpp_fused")
    assert found(within).why == "mlp does the work of relu_squared, too"


def test_the_optimizer_is_never_compiled(lab, found):
    candidate = kernels(lab, adamw_update="cpp_fused")
    lab.evidence(candidate["adamw_update"], arms=timed(*ROWS[::2]))
    assert found(candidate, compiled=True).saved_ms == pytest.approx(50.0)
    forward = kernels(lab, rope="cpp_fused")
    lab.evidence(forward["rope"], arms=timed(*ROWS[::2]))
    assert found(forward, compiled=True).why.endswith("of what the other arm runs in a compiled graph")
