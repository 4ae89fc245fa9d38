"""Calls that are unusual in several ways at once: what meets what, and that the calls are what they are said to be."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import product

import numpy as np
import pytest

from autoresearch_common import workload as w
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_lab.verify.axes import COTANGENTS, EXPANDED, LAYOUTS, WITH_GRADIENTS, WITHOUT, laid_out
from autoresearch_lab.verify.cases import ROUGH, Case, elements, main_dtype
from autoresearch_lab.verify.combinations import COMPILED, LARGEST, trainer_makes
from autoresearch_lab.verify.covering import Deck
from autoresearch_lab.verify.plan import REMAINDERS, Planner
from autoresearch_lab.verify.small import small_workloads
from autoresearch_lab.verify.unusual import scaled

CATALOG = load_catalog(Root())


@cache  # no test changes a case
def cases(target: str, engine: str = "cpu", seed: int = 0) -> list[Case]:
    workloads = small_workloads(CATALOG[target], engine)
    found = Planner(CATALOG[target], workloads, np.random.default_rng(seed)).cases()
    others = ("rows/", "captured/", "same/")
    return [case for case in found if case.group == "combinations" and not case.id.startswith(others)]


def plainly(layout: str) -> str:
    """A cotangent's layout, whichever axes it is about."""
    return layout.removeprefix("outer ").removeprefix("inner ")


def test_contexts_meet_cotangents_and_every_scalars_value() -> None:
    found = cases("softcap_cross_entropy")
    modes = (*WITH_GRADIENTS, *WITHOUT)
    scalars = [w.scalars(case.workload) for case in found]
    met = {(case.mode, scalar["reduction"]) for case, scalar in zip(found, scalars, strict=True)}
    assert met == set(product(modes, ("mean", "none")))
    differentiated = {(case.mode, plainly(case.steps[0].layout)) for case in found if case.grad}
    assert differentiated == set(product(WITH_GRADIENTS, COTANGENTS))
    assert {case.compiled for case in found} == {False, True}
    caps = Counter(scalar["softcap"] for scalar in scalars)
    drawn = set(caps) - {15.0, 20.0, 30.0}
    assert len(drawn) == 1 and 15.0 < min(drawn) < 30.0
    assert all(case.steps[0].contents.scalars == scalar for case, scalar in zip(found, scalars, strict=True))


def test_any_value_of_a_scalar_meets_any_two_layouts() -> None:
    found = cases("softcap_cross_entropy")
    met = set()
    for case in found:
        first, second = (value for _, value in case.layouts)
        for step in case.steps:
            scalars = step.contents.scalars
            met.add((scalars["reduction"], first, second))
            if case.grad:
                met |= {(scalars["reduction"], layout, plainly(step.layout)) for layout in (first, second)}
                met.add((scalars["reduction"], scalars["softcap"], plainly(step.layout)))
    caps = {step.contents.scalars["softcap"] for case in found for step in case.steps}
    layouts = {*product(("mean", "none"), LAYOUTS, (*LAYOUTS, *COTANGENTS))}
    assert layouts <= met and set(product(("mean", "none"), caps, COTANGENTS)) <= met


@pytest.mark.parametrize("target", sorted(CATALOG))
def test_most_calls_are_small_and_contents_change_at_the_same_addresses(target: str) -> None:
    found = cases(target)
    assert 3 <= len(found) <= 110
    assert sum(elements(case.workload) > LARGEST for case in found) <= 40
    for case in found:
        assert elements(case.workload) <= 1 << 22
        assert case.steps[0].contents.kind == "typical"
        wanted = [name for spec in w.arrays(case.workload) if spec["grad"] for name in [spec["name"]]]
        assert not case.grad if case.mode in WITHOUT else set(case.grad) <= set(wanted)
    words = [value for each in CATALOG[target].contract.args for value in each.values if isinstance(value, str)]
    repeated = [case for case in found for step in case.steps if step.repeats > 0 and not case.compiled]
    dtypes = {main_dtype(case.workload) for case in found} if CATALOG[target].contract.phase == "optimizer" else ()
    assert [case.mode in WITHOUT for case in repeated].count(True) == max(1, len(words) + len(dtypes))
    assert len(repeated) <= 2 * max(1, len(words) + len(dtypes))
    compiled = [case.mode in WITHOUT for case in found if case.compiled and case.steps[0].repeats]
    assert sorted(compiled) == ([False, True] if any(each.grad for each in CATALOG[target].contract.args) else [True])


def test_calls_are_as_in_a_training() -> None:
    found = cases("residual_norm")
    several = [case for seed in range(3) for case in cases("residual_norm", seed=seed)]
    firsts = [case.steps[0].contents for case in several if case.grad]
    largest = [max(float(np.abs(each.astype(np.float64)).max()) for each in c.cotangents or ()) for c in firsts]
    assert min(largest) < 1e-4 and max(largest) > 1e2
    assert any(not each.any() for contents in firsts for each in contents.cotangents or ())
    assert any(contents.arrays["resid_lambda"] == 1 for contents in firsts)
    assert any(not contents.arrays["x"].any() for contents in firsts)
    assert {len(case.grad) for case in several} == {0, 1, 2, 3, 4}
    switched_off = [case for case in found if case.mode in ("no_grad", "inference_mode")]
    assert len({case.leaves for case in switched_off}) > 3
    assert {case.leaves for case in found if case not in switched_off} == {()}
    repeated = [case for case in switched_off if any(step.repeats for step in case.steps)]
    assert {case.mode for case in repeated} == {"no_grad"} and {case.compiled for case in repeated} == {False, True}
    assert {case.leaves for case in repeated} == {("x", "x0", "resid_lambda", "x0_lambda")}
    modes = [case.mode for case in found if case.compiled]
    assert len(modes) == len(set(modes)) == COMPILED


def test_some_rows_and_some_cotangents_are_zero() -> None:
    found = [case for seed in range(3) for case in cases("rms_norm", seed=seed) if case.grad]
    firsts = [case.steps[0].contents.cotangents[0].astype(np.float64) for case in found]  # type: ignore[index]
    assert any(not each.any() for each in firsts)
    rows = [each.reshape(-1, each.shape[-1]).any(-1) for each in firsts if each.any()]
    assert any(0 < np.count_nonzero(some) < some.size for some in rows)


@pytest.mark.parametrize("target", ["qk_prelude", "rms_norm", "windowed_attention"])
def test_every_context_and_every_far_size_comes_as_a_trainer_calls(target: str) -> None:
    found = [case for case in cases(target) if trainer_makes(case, {"bfloat16"})]
    assert {case.mode for case in found} == {*WITH_GRADIENTS, *WITHOUT}
    assert {plainly(step.layout) for case in found if case.grad for step in case.steps} == {*COTANGENTS}
    compiled = {case.mode in WITHOUT for case in found if case.compiled}
    assert compiled == {False, True}
    (call,) = small_workloads(CATALOG[target], "cpu").workloads[:1]
    far = len(CATALOG[target].oracle.beyond(call, np.random.default_rng(0)))
    assert sum(bool(case.grad) and elements(case.workload) > LARGEST for case in found) >= far // 2


def test_an_argument_may_be_one_row_seen_many_times() -> None:
    found = [case for case in cases("residual_mix") if ("layout of x", EXPANDED) in case.layouts]
    assert found
    for case in found:
        for step in case.steps:
            for contents in (step.contents, *step.shadows):
                x = contents.arrays["x"]
                assert x.tobytes() == np.ascontiguousarray(np.broadcast_to(x[:1], x.shape)).tobytes()


def test_gradients_of_parts_that_were_not_used() -> None:
    found = [step.contents.arrays["grad"] for case in cases("adamw_update") for step in case.steps[:1]]
    empty = [(~each.any(axis=tuple(range(1, each.ndim)))).mean() for each in found if len(each) > 1]
    assert empty.count(1.0) > 1 and sum(0.3 < share < 0.6 for share in empty) > 1 and empty.count(0.0) > 20
    assert any(0.6 < share < 1.0 for share in empty)  # of a table of tokens few have a gradient


def test_cotangents_of_rows_that_are_masked() -> None:
    found = [case for seed in range(4) for case in cases("softcap_cross_entropy", seed=seed) if case.grad]
    usual = [step.contents for case in found for step in case.steps if step.contents.kind == "typical"]
    rows = [each for contents in usual for each in contents.cotangents or () if each.ndim]
    assert sum(0.3 < (each == 0).mean() < 0.6 for each in rows) > 5 and sum((each != 0).all() for each in rows) > 20


def test_sequences_are_padded() -> None:
    for target in ("softcap_cross_entropy", "loss_head"):
        workloads, rng = small_workloads(CATALOG[target], "cpu"), np.random.default_rng(0)
        planners = [Planner(CATALOG[target], workloads, rng) for _ in range(3)]
        found = [step.contents for planner in planners for case in planner.cases() for step in case.steps]
        targets = [contents.arrays["targets"] for contents in found if contents.kind == "typical"]
        runs = ["".join("01"[int(ignored)] for ignored in each == -1).split("0") for each in targets]
        longest = [max(map(len, run)) for run in runs]
        assert sum(run > 16 for run in longest) > 3 and longest.count(0) > 20
        assert any(len(each) > 4096 for each, run in zip(targets, longest, strict=True) if run)
        edges = [CATALOG[target].oracle.inputs(workloads.workloads[0], rng, "edge")["targets"] for _ in range(40)]
        assert 4 < sum((each == -1).all() for each in edges) < 35


def test_scalars_that_nobody_wrote_down() -> None:
    seen = [w.scalars(case.workload) for seed in range(3) for case in cases("adamw_update", seed=seed)]
    rates, steps = {each["lr"] for each in seen}, {each["step"] for each in seen}
    assert any(0 < rate < 1e-3 for rate in rates) and any(0.01 < rate < 0.6 for rate in rates)
    assert any(step > 2048 for step in steps) and len(steps - {1, 7, 1000, 2048}) > 3
    assert all(type(step) is int for step in steps)


def test_each_choice_made_by_a_word_is_repeated() -> None:
    repeated = [case for case in cases("loss_head") if case.steps[0].repeats and not case.compiled]
    found = Counter((bool(case.grad), w.scalars(case.workload)["reduction"]) for case in repeated)
    assert found == Counter(product((False, True), ("mean", "none")))


@pytest.mark.parametrize("target", ["adamw_update", "muon_update", "newton_schulz"])
def test_repeated_and_far_calls_of_an_optimizer_have_rates_and_gradients(target: str) -> None:
    for seed in range(3):
        for case in cases(target, seed=seed):
            first = case.steps[0].contents
            if case.steps[0].repeats:
                assert all(value != 0 for value in first.scalars.values())
            if len(case.steps) < 2 and not case.id.startswith("weights/"):
                assert first.arrays["g" if target == "newton_schulz" else "grad"].any()


def test_states_may_be_nan_and_a_model_sure_of_a_row() -> None:
    rng = np.random.default_rng(0)
    for target, names in (("adamw_update", ("p", "exp_avg", "exp_avg_sq")), ("muon_update", ("momentum",))):
        (call,) = small_workloads(CATALOG[target], "cpu").workloads
        drawn = [CATALOG[target].oracle.inputs(call, rng, "nonfinite") for _ in range(20)]
        assert all(any(np.isnan(values[name]).any() for values in drawn) for name in names)
    oracle = CATALOG["loss_head"].oracle
    (call,) = small_workloads(CATALOG["loss_head"], "cpu").workloads
    call = w.variant(call, w_head=(33, 32), reduction="none")
    drawn = [oracle.forward(oracle.padded(oracle.inputs(call, rng, "typical"), rng))[0] for _ in range(20)]
    assert any(np.mean((losses > 0) & (losses < 0.01)) > 0.1 for losses in drawn)


def test_the_largest_captured_call_is_made_many_times_and_compiled() -> None:
    def large(target: str, engine: str = "cpu") -> list[Case]:
        calls = small_workloads(CATALOG[target], engine, ample=target == "muon_update")
        planner = Planner(CATALOG[target], calls, np.random.default_rng(0))
        return [case for case in planner.cases() if case.id.startswith("captured/") and case.group == "combinations"]

    many, rare, evaluations, one, twelve, together, compiled = large("loss_head")
    assert many.steps[0].repeats and not many.steps[0].judged and many.grad and not many.compiled
    zeros, wild = (step.contents for step in rare.steps)  # a single loss has a single cotangent
    assert rare.held and rare.grad and wild.kind == "nonfinite"
    for name in ("x", "w_head"):
        assert 0.95 < (zeros.arrays[name] == 0).all(axis=-1).mean() < 1
    assert one.threads == 1 and 9 <= twelve.threads <= 16 and one.steps[0].judged
    assert evaluations.steps[0].repeats and evaluations.mode == "no_grad" and not evaluations.compiled
    assert together.steps[0].repeats and together.compiled and together.grad
    assert compiled.compiled and compiled.steps[0].judged and compiled.grad
    assert [case.compiled for case in large("loss_head", "cuda")] == [True]
    assert [case.compiled for case in large("loss_head", "mlx")] == [False, False, False, True]
    assert not any(case.held for case in large("loss_head", "mlx"))
    assert not large("rms_norm")  # whose call is small
    scalars, many, rare, *_ = large("muon_update")
    assert len({step.contents.scalars["lr"] for step in scalars.steps}) > 1
    assert many.steps[0].repeats and not rare.held
    first = rare.steps[0].contents.arrays
    unseen = (first["grad"] == 0).all(axis=-1)
    assert 0.9 < unseen.mean() < 1 and not first["momentum"][unseen].any()
    assert not (first["p"] == 0).all(axis=-1).any()


def test_two_arguments_are_one_array() -> None:
    rng = np.random.default_rng(0)
    target = CATALOG["residual_norm"]
    values, found = [
        [case for case in Planner(target, small_workloads(target, engine), rng).cases() if case.same]
        for engine in ("mlx", "cpu")
    ]
    of_values = {("plain", False), ("plain", True), ("no_grad", False)}
    assert {(case.mode, case.compiled) for case in values} == of_values
    assert {(case.mode, case.compiled) for case in found} == {*of_values, ("not a leaf", False)}
    assert {main_dtype(case.workload) for case in found} == {"bfloat16", "float16", "float32"}
    assert any(case.id.endswith("captured") for case in found)
    for case in found:
        assert case.same == ("x", "x0")
        assert case.grad == (() if case.mode == "no_grad" else ("x", "resid_lambda", "x0_lambda"))
    for step in [step for case in found for step in case.steps]:
        for contents in (step.contents, *step.shadows):
            assert np.array_equal(contents.arrays["x"], contents.arrays["x0"])


@pytest.mark.parametrize(
    ("target", "sets"),
    [
        ("qk_prelude", {("q", "k"), ("cos", "sin")}),
        ("windowed_attention", {("q", "k", "v")}),
        ("residual_mix", {("x", "x0"), ("resid_lambda", "x0_lambda")}),
        ("adamw_update", set()),
    ],
)
def test_arguments_are_cut_from_one_block(target: str, sets: set[tuple[str, ...]]) -> None:
    found = [case for case in cases(target) if case.together]
    assert {tuple(sorted(case.together)) for case in found} == {tuple(sorted(each)) for each in sets}
    assert {case.mode for case in found} == ({"plain", "no_grad"} if sets else set())
    for case in found:
        specs = [spec for spec in w.arrays(case.workload) if spec["name"] in case.together]
        places = [
            spec["offset"] + sum(i * s for i, s in zip(index, spec["strides"], strict=True))
            for spec in specs
            for index in np.ndindex(*spec["shape"])
        ]
        assert len(set(places)) == len(places) and min(places) == 0


def test_scalars_and_single_numbers_change_alone() -> None:
    found = cases("rms_norm")
    pairs = [pair for case in found for pair in zip(case.steps, case.steps[1:], strict=False)]
    alone = [two for one, two in pairs if one.contents.arrays is two.contents.arrays]
    assert len(alone) > 5 and any(step.contents.kind == "scaled" for step in alone)
    changed = Counter(
        name
        for case in cases("residual_mix")
        for step in case.steps
        if step.contents.kind == "exchanged"
        for name in ("resid_lambda", "x0_lambda")
        if step.contents.arrays[name] != case.steps[0].contents.arrays[name]
    )
    assert set(changed) == {"resid_lambda", "x0_lambda"}


def test_factors_are_not_always_as_at_the_start() -> None:
    found = [
        float(step.contents.arrays["resid_lambda"])
        for seed in range(3)
        for case in cases("residual_mix", seed=seed)
        for step in case.steps
        if step.contents.kind == "scaled"
    ]
    assert max(found) > 3 and min(map(abs, found)) < 0.5


def test_where_arrays_are_values_there_are_few_contexts() -> None:
    found = cases("rms_norm", "mlx")
    assert {case.mode for case in found} == {"plain", "interleaved", "nothing wanted"}
    updates = [case for case in cases("adamw_update", "mlx") if case.id.startswith("combination/")]
    assert {case.mode for case in updates} == {"nothing wanted"}
    assert sum(case.compiled for case in found) == COMPILED
    assert all(step.as_arrays for case in found if case.compiled for step in case.steps)
    as_arrays = {step.as_arrays for case in found if not case.compiled for step in case.steps}
    assert as_arrays == {False, True}
    assert {step.layout for case in found for step in case.steps} == {"contiguous", "transposed", "expanded"}
    assert not any(spec.get("offset") for case in found for spec in w.arrays(case.workload))


@pytest.mark.parametrize("target", sorted(CATALOG))
def test_every_far_size_and_every_remainder_of_rows_is_tried(target: str) -> None:
    rng = np.random.default_rng(0)
    workloads = small_workloads(CATALOG[target], "cpu")
    found = [case for case in Planner(CATALOG[target], workloads, rng).cases() if case.group == "combinations"]
    rows = [case.id.partition("/")[2].split() for case in found if case.id.startswith("rows/")]
    counts, widths = ([int(each[place]) for each in rows] for place in (0, 1))
    assert {count % REMAINDERS for count in counts} >= set(range(2, REMAINDERS)) and len(counts) == REMAINDERS
    assert sorted(widths) == list(range(1, REMAINDERS + 1))
    beyond = CATALOG[target].oracle.beyond(workloads.workloads[0], np.random.default_rng(1))
    largest = max(max(spec["shape"], default=0) for case in found for spec in w.arrays(case.workload))
    assert len(beyond) >= 3 and (largest > 1000 or target == "attention_mask")


def test_heads_share_keys_and_rows_of_classes_are_long() -> None:
    shared = [case for case in cases("windowed_attention") if len({s["shape"][2] for s in w.arrays(case.workload)}) > 1]
    assert shared and any(s["shape"][3] == 64 for case in cases("windowed_attention") for s in w.arrays(case.workload))
    classes = [w.arrays(case.workload)[0]["shape"][1] for case in cases("softcap_cross_entropy")]
    assert max(classes) > 65_536 and any(8192 < count < 9000 for count in classes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_address_every_element_once(layout: str) -> None:
    rng = np.random.default_rng(0)
    for shape in [(), (5,), (3, 4), (2, 3, 4)]:
        strides = laid_out(shape, layout, rng)
        places = [sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(shape)]
        alike = shape[0] if layout == EXPANDED and shape else 1
        assert len(set(places)) == len(places) / alike and min(places) == 0
    assert laid_out((3, 4), "transposed", rng, of_last=False) == [1, 3]
    assert laid_out((2, 3, 4), "transposed", rng) == [12, 1, 3]
    drawn = {tuple(laid_out((2, 3, 4), "transposed", rng, of_last=False)) for _ in range(50)}
    assert drawn == {(12, 1, 3), (4, 8, 1), (1, 2, 6)}


@pytest.mark.parametrize("seed", range(3))
def test_rows_with_gaps_begin_inside_a_block_as_well(seed: int) -> None:
    found = set()
    for case in cases("relu_squared", seed=seed):
        for spec in w.arrays(case.workload):
            if ("layout of x", "gaps") in case.layouts and len(spec["shape"]) > 1:
                behind_rows = spec["strides"][-2] > spec["shape"][-1]
                found.add((behind_rows, bool(spec.get("offset"))))
    assert found == set(product((False, True), repeat=2))


def test_sequences_of_which_most_is_padded() -> None:
    oracle, rng = CATALOG["softcap_cross_entropy"].oracle, np.random.default_rng(0)
    ignored = [oracle.padded({"targets": np.zeros(24, np.int64)}, rng)["targets"] == -1 for _ in range(30)]
    assert any(each.mean() > 0.5 and not each[-1:].all() for each in ignored)
    assert any(each.mean() > 0.5 and np.diff(each.astype(int)).clip(0).sum() > 1 for each in ignored)


def test_scaled_values_reach_between_the_usual_and_the_extreme() -> None:
    rng = np.random.default_rng(0)
    drawn = [(case, case.steps[0].contents.arrays["x"]) for case in cases("rms_norm")]
    (case, *_) = [case for case, x in drawn if x.ndim > 1 and x.any()]
    contents = case.steps[0].contents
    sizes, constant, ties = [], 0, 0
    deck = Deck(rng)
    for _ in range(60):
        x = scaled(contents, rng, deck, {}).arrays["x"].astype(np.float64)
        rows = x.reshape(-1, x.shape[-1])
        sizes.append(np.log10(np.abs(rows).max()))
        constant += bool((rows == rows[:, :1]).all(-1).any())
        ties += bool(((rows == rows.max(-1, keepdims=True)).sum(-1) == 2).any())
    assert min(sizes) < -4 and max(sizes) > 5 and constant == 60 and ties > 20
    assert all(any(4 < size < 7 for size in sizes[start : start + 12]) for start in range(0, 60, 12))


def test_what_a_trainer_may_call_is_told_from_the_rest() -> None:
    found = cases("rms_norm")
    made = [case for case in found if trainer_makes(case, {"bfloat16"})]
    assert made and all("bfloat16" in case.shapes() for case in made)
    assert not any(word in case.about for case in made for word in ("x transposed", "x gaps", "x offset", "x strided"))


def test_any_number_of_rows_is_a_trainers() -> None:
    rows = [
        w.arrays(case.workload)[0]["shape"][0]
        for seed in range(3) for case in cases("softcap_cross_entropy", seed=seed)
        if trainer_makes(case, {"bfloat16"})
    ]  # fmt: skip
    assert max(rows) > 65_536


def test_no_loss_is_one_over_a_single_class() -> None:
    """It has no gradient and is always zero, so that a repeated call would show nothing."""
    found = [case for seed in range(4) for case in cases("loss_head", seed=seed)]
    assert min(min(spec["shape"]) for case in found for spec in w.arrays(case.workload)) > 1


def test_rough_values_have_usual_ones_beside_them_that_are_usual() -> None:
    """By these it is said what size counts, so nothing in them is zero, or 2^20 times as large."""
    seen = 0
    for case in (case for seed in range(4) for case in cases("loss_head", seed=seed)):
        if any(step.contents.kind in ROUGH for step in case.steps) and elements(case.workload) <= LARGEST:
            first = case.steps[0].contents
            assert all(array.any() for array in first.arrays.values())
            assert all(0.01 < np.abs(each.astype(np.float64)).max() < 100.0 for each in first.cotangents or ())
            seen += first.cotangents is not None
    assert seen > 20


@pytest.mark.parametrize("target", ["mlp", "residual_mix"])
def test_calls_are_repeated_in_the_trainers_dtype_and_cotangents_reach_far(target: str) -> None:
    for seed in range(3):
        found = cases(target, seed=seed)
        assert {main_dtype(case.workload) for case in found if case.steps[0].repeats} == {"bfloat16"}
        steps = [step for case in found if case.grad and main_dtype(case.workload) == "bfloat16" for step in case.steps]
        sizes = [np.abs(each.astype(np.float64)).max() for step in steps for each in step.contents.cotangents or ()]
        assert min(size for size in sizes if size) < 2.0**-28 and max(sizes) > 2.0**6
