"""Calls that are unusual in several ways at once: what meets what, and that the calls are what they are said to be."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from autoresearch_common import workload as w
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_lab.verify.cases import Case, elements
from autoresearch_lab.verify.combinations import (
    COTANGENTS,
    LARGEST,
    LAYOUTS,
    WITH_GRADIENTS,
    WITHOUT,
    laid_out,
    scaled,
    trainer_makes,
)
from autoresearch_lab.verify.plan import Planner
from autoresearch_lab.verify.small import small_workloads

CATALOG = load_catalog(Root())


def cases(target: str, engine: str = "cpu", seed: int = 0) -> list[Case]:
    workloads = small_workloads(CATALOG[target], engine)
    found = Planner(CATALOG[target], workloads, np.random.default_rng(seed)).cases()
    return [case for case in found if case.group == "combinations"]


def test_contexts_meet_cotangents_and_every_scalars_value() -> None:
    found = cases("softcap_cross_entropy")
    modes = (*WITH_GRADIENTS, *WITHOUT)
    scalars = [w.scalars(case.workload) for case in found]
    met = {(case.mode, scalar["reduction"]) for case, scalar in zip(found, scalars, strict=True)}
    assert met == set(product(modes, ("mean", "none")))
    differentiated = {(case.mode, case.steps[0].layout) for case in found if case.grad}
    assert differentiated == set(product(WITH_GRADIENTS, COTANGENTS))
    assert {case.compiled for case in found} == {False, True}
    caps = Counter(scalar["softcap"] for scalar in scalars)
    drawn = set(caps) - {15.0, 20.0, 30.0}
    assert len(drawn) == 1 and 15.0 < min(drawn) < 30.0
    assert all(case.steps[0].contents.scalars == scalar for case, scalar in zip(found, scalars, strict=True))


@pytest.mark.parametrize("target", sorted(CATALOG))
def test_calls_are_small_and_contents_change_at_the_same_addresses(target: str) -> None:
    found = cases(target)
    assert 3 <= len(found) <= 110
    for case in found:
        assert elements(case.workload) <= LARGEST and len(case.steps) == 2
        assert case.steps[0].contents.kind == "typical"
        wanted = [name for spec in w.arrays(case.workload) if spec["grad"] for name in [spec["name"]]]
        assert not case.grad if case.mode in WITHOUT else set(case.grad) <= set(wanted)
    assert sum(step.repeats > 0 for case in found for step in case.steps) == 1


def test_where_an_engine_has_no_contexts_there_are_none() -> None:
    found = cases("rms_norm", "mlx")
    assert {(case.mode, case.compiled) for case in found} == {("plain", False)}
    assert {step.layout for case in found for step in case.steps} == {"contiguous", "transposed", "expanded"}
    assert not any(spec.get("offset") for case in found for spec in w.arrays(case.workload))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_address_every_element_once(layout: str) -> None:
    rng = np.random.default_rng(0)
    for shape in [(), (5,), (3, 4), (2, 3, 4)]:
        strides, offset = laid_out(shape, layout, rng)
        places = [offset + sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(shape)]
        assert len(set(places)) == len(places) and min(places) == offset
        assert (offset > 0) == (layout == "offset")
    assert laid_out((3, 4), "transposed", rng)[0] == [1, 3]


def test_scaled_values_reach_between_the_usual_and_the_extreme() -> None:
    rng = np.random.default_rng(0)
    (case, *_) = [case for case in cases("rms_norm") if case.steps[0].contents.arrays["x"].ndim > 1]
    contents = case.steps[0].contents
    sizes, constant, ties = [], 0, 0
    for _ in range(60):
        x = scaled(contents, rng).arrays["x"].astype(np.float64)
        rows = x.reshape(-1, x.shape[-1])
        sizes.append(np.log10(np.abs(rows).max()))
        constant += bool((rows == rows[:, :1]).all(-1).any())
        ties += bool(((rows == rows.max(-1, keepdims=True)).sum(-1) == 2).any())
    assert min(sizes) < -4 and max(sizes) > 5 and constant == 60 and ties > 20
    assert any(4 < size < 7 for size in sizes)


def test_what_a_trainer_may_call_is_told_from_the_rest() -> None:
    found = cases("rms_norm")
    made = [case for case in found if trainer_makes(case, {"bfloat16"})]
    assert made and all("bfloat16" in case.shapes() for case in made)
    assert not any(word in case.about for case in made for word in ("x transposed", "x gaps", "x offset", "x strided"))
