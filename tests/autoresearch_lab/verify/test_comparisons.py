"""What a candidate may be wrong by: a trusted implementation's luck in one call is no measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autoresearch_common.tolerance import HALF_UNIT
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_lab.verify.cases import Case
from autoresearch_lab.verify.comparisons import Comparison, Comparisons, not_finite_either
from autoresearch_lab.verify.exchange import Answers, shadow_number
from autoresearch_lab.verify.plan import Planner
from autoresearch_lab.verify.reference import References, expected
from autoresearch_lab.verify.small import small_workloads
from autoresearch_trainer.jobs.calls import ResultName

TARGET = load_catalog(Root())["softcap_cross_entropy"]
# Of a mean over N rows, times sqrt(N): what rounding to bfloat16 leaves.
ROUNDING = 2.0**-9


def _losses(reduction: str) -> list[tuple[Case, int]]:
    """Calls whose result is one number, or one for each row, of usual values."""
    cases = Planner(TARGET, small_workloads(TARGET, "cpu"), np.random.default_rng(0)).cases()
    return [
        (case, number)
        for case in cases
        for number, step in enumerate(case.steps)
        if step.judged and step.contents.kind == "typical" and step.contents.scalars["reduction"] == reduction
    ]


def _answers(
    losses: list[tuple[Case, int]], references: References, wrong: float, lucky: Case | None = None
) -> Answers:
    """Every loss off by so much, up or down, a mean over the square root of its rows; those of one case not at all."""
    answers = Answers()
    for case, number in losses:
        mean, rows = case.steps[number].contents.scalars["reduction"] == "mean", case.rows_of_data()
        by = wrong / np.sqrt(rows) if mean else wrong * np.random.default_rng(rows).choice((-1.0, 1.0), rows)
        off = 1.0 + (0.0 if case is lucky else by)
        for name, right in references.of(case, case.steps[number]).items():
            if name.kind == "output":
                answers.arrays[name.key(case.id, number)] = (right.value * off).astype(np.float32)
                for place, contents in enumerate(case.steps[number].shadows):
                    value = references.shadow(case, contents)[name].value * off
                    answers.arrays[name.key(case.id, shadow_number(case, number, place))] = value.astype(np.float32)
    return answers


@pytest.mark.parametrize(
    ("wrong", "passes"), [(0.0, True), (ROUNDING, True), (4 * ROUNDING, True), (16 * ROUNDING, False)]
)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_loss_that_the_baseline_has_right_by_luck_counts_as_usual(wrong: float, passes: bool, reduction: str) -> None:
    """As a mean may be, or a loss of which few rows count."""
    losses, references = _losses(reduction), References(TARGET.oracle)
    lucky = next(case for case, _ in losses if case.group in ("odd", "combinations") and case.rows_of_data() > 8)
    candidate = _answers([pair for pair in losses if pair[0] is lucky], references, wrong)
    baseline = _answers(losses, references, ROUNDING, lucky)
    cases = list({case.id: case for case, _ in losses}.values())
    evidence = Comparisons(TARGET, cases, candidate, baseline, references)
    found = [one for one in evidence.comparisons(lucky) if one.name.kind == "output" and one.limit]
    assert found and all(one.passed for one in found) == passes


@pytest.mark.parametrize(("units", "passes"), [(1, True), (16, False)])
def test_what_roundings_do_to_a_sum_that_cancels_is_no_fault(units: int, passes: bool) -> None:
    """A baseline that has everything right by luck, and a candidate whose arguments were rounded; no other call shows
    how ill-conditioned this one is."""
    target = load_catalog(Root())["residual_norm"]
    cases = Planner(target, small_workloads(target, "cpu"), np.random.default_rng(4)).cases()
    chosen = [
        replace(case, steps=tuple(replace(step, shadows=()) for step in case.steps))
        for case in cases
        if case.group == "odd" and case.specs[0]["dtype"] == "float32"
    ]
    references, right, rounded = References(target.oracle), Answers(), Answers()
    for case in chosen:
        for number, step in enumerate(case.steps):
            args = step.contents.widened()
            for name in step.contents.arrays:
                signs = np.random.default_rng(7).choice((-1.0, 1.0), np.shape(args[name]))
                args[name] = args[name] * (1.0 + units * HALF_UNIT * signs)
            off = references._values(args, step.contents, case)
            for name, right_one in references.of(case, step).items():
                right.arrays[name.key(case.id, number)] = right_one.value.astype(np.float32)
                rounded.arrays[name.key(case.id, number)] = off[name].astype(np.float32)
                if name.kind == "gradient":
                    rounded.arrays[name.again.key(case.id, number)] = off[name].astype(np.float32)
    evidence = Comparisons(target, chosen, rounded, right, references)
    assert all(one.passed for case in chosen for one in evidence.comparisons(case)) == passes


def test_what_overflows_in_the_oracle_stays_infinite() -> None:
    right = expected(np.array([70_000.0, 1.0, 1.0]), "float16")
    values = np.array([np.inf, np.inf, np.inf])
    found = not_finite_either(values, right, [None, np.array([np.inf, np.inf, 1.0], dtype=np.float16)])
    assert found.tolist() == [np.inf, 1.0, np.inf]


@pytest.mark.parametrize(("value", "passes"), [(np.inf, True), (-np.inf, False), (np.nan, False)])
def test_what_is_infinite_in_a_trusted_implementation_may_be_so_in_a_candidate(value: float, passes: bool) -> None:
    """As AdamW's step in float16 where its denominator underflows."""
    losses, references = _losses("none"), References(TARGET.oracle)
    case, number = losses[0]
    baseline, candidate, other = (_answers(losses[:1], references, ROUNDING) for _ in range(3))
    for answers, wrong in ((candidate, value), (other, np.inf)):
        for key in answers.arrays:
            answers.arrays[key][0] = wrong
    evidence = Comparisons(TARGET, [case], candidate, baseline, references, trusted=[other])
    found = [one for one in evidence.comparisons(case) if one.step == number and one.name.kind == "output"]
    assert found and all(one.passed for one in found) == passes
    alone = Comparisons(TARGET, [case], candidate, baseline, references)
    assert not all(one.passed for one in alone.comparisons(case) if one.step == number and one.name.kind == "output")


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("row", "error of a row 0.02, allowed 0.01"),
        ("factor", "common factor by which the whole result is too large or too small 0.02, allowed 0.01"),
        ("shift to one side", "shift of the whole result to one side 0.02, allowed 0.01"),
        ("factor of part 3 along axis 1", "factor of part 3 along axis 1 0.02, allowed 0.01"),
    ],
)
def test_every_measure_has_words(metric: str, told: str) -> None:
    case, _ = _losses("mean")[0]
    assert told in Comparison(case, 0, ResultName.output(0), 2.0, metric, 0.02, 0.005, 0.01).words()
