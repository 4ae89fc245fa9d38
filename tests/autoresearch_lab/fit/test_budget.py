"""How minutes are divided, and which shapes are tried."""

import pytest

from autoresearch_lab.fit.budget import FULL_SHAPES, MOST_SECONDS, Costs, divide
from autoresearch_lab.fit.shapes import neighbours
from autoresearch_trainer.config import PRESETS, preset

COSTS = Costs(start=8.0, compile=35.0)


@pytest.mark.parametrize("minutes", [8, 10, 20, 30])
def test_what_is_planned_fits_into_the_budget_and_fills_it(minutes: int):
    found = divide(60.0 * minutes, 60, COSTS, True)
    assert 0.8 * 60 * minutes < found.seconds <= 60 * minutes
    shapes, seconds = zip(*((stage.shapes, stage.seconds) for stage in found.stages), strict=True)
    assert shapes[0] > shapes[1] > shapes[2] >= 2 or minutes < 10
    assert seconds[0] < seconds[1] < seconds[2] == found.pair_seconds
    assert [stage.automatic for stage in found.stages] == [False, True, True]


def test_a_budget_that_is_too_small_or_none_has_bounds():
    least = divide(60.0, 60, COSTS, True)
    assert least.stages[0].seconds == 3 and least.seconds > 60
    full = divide(None, 60, COSTS, True)
    assert full.stages[0].shapes == FULL_SHAPES and full.stages[0].seconds == MOST_SECONDS and full.pair_seconds == 120
    assert divide(None, 1, COSTS, False).stages[0].shapes == 1
    assert all(stage.automatic for stage in divide(1200.0, 60, COSTS, False).stages)


@pytest.mark.parametrize("name", PRESETS)
def test_every_shape_keeps_what_val_bpb_means(name: str):
    base = preset(name)
    tokens = base.data_centre[1] if base.data_centre else base.total_batch_tokens
    tried = neighbours(name, tokens)
    assert tried[0] == name and len(tried) > 40 and len(set(tried)) == len(tried)
    for one in map(preset, tried):
        same = ("sequence_len", "vocab_size", "window_pattern")
        assert [getattr(one.model, what) for what in same] == [getattr(base.model, what) for what in same]
        assert (one.eval_tokens, one.reference_tokens, one.evaluated_batch) == (
            base.eval_tokens, base.reference_tokens, base.batch_size
        )  # fmt: skip
    near = {(one.model.n_layer, one.model.n_embd, one.total_batch_tokens) for one in map(preset, tried[:12])}
    assert len({depth for depth, _, _ in near}) > 2 and len({width for _, width, _ in near}) > 2
    assert len({step for _, _, step in near}) > 1
