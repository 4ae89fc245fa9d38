"""Charts: what decides is drawn from the records' numbers, and names do not lie on each other."""

from __future__ import annotations

from typing import Any

import pytest

from autoresearch_lab.report.charts.roofline import PLOT_PX, label_positions
from autoresearch_lab.report.collect import collect
from autoresearch_lab.report.page import figures


@pytest.fixture
def drawn(full: Any) -> dict[str, Any]:
    return figures(collect(full.lab, full.context))


def test_hot_ops_add_up_to_the_profile(drawn: dict[str, Any]) -> None:
    bars = {
        trace.name: dict(zip(trace.y, trace.x, strict=True)) for trace in drawn["hot_ops"].data if trace.type == "bar"
    }
    assert bars["forward"]["softcap_cross_entropy"] == 22.4 and bars["backward"]["rms_norm"] == 4.2
    assert bars["optimizer"]["newton_schulz"] == 11.2
    (floor,) = [trace for trace in drawn["hot_ops"].data if trace.name == "floor of this machine"]
    assert "attention_mask" not in floor.y  # its floor is unknown, and unknown is not zero


def test_the_forest_shows_verdict_library_and_band(drawn: dict[str, Any]) -> None:
    points = {trace.name: trace for trace in drawn["forest"].data if trace.mode and "markers" in trace.mode}
    decisive = points["candidate, as the trainer calls it"]
    assert max(decisive.x) == 6.2 and list(points["library"].x) == [1.3] * 4
    band = drawn["forest"].layout.shapes[0]
    assert (band.x0, band.x1) == pytest.approx((1 / 1.012, 1.012))


def test_the_ab_shows_every_process_and_seed(drawn: dict[str, Any]) -> None:
    assert len(drawn["ab0_speed"].data[0].x) == 4 and len(drawn["ab0_quality"].data[0].x) == 4
    assert [trace.name for trace in drawn["ab0_divergence"].data] == ["baseline, one ulp moved", "candidate"]
    interval = drawn["ab0_speed"].data[1]
    assert interval.x[0] - interval.error_x.arrayminus[0] == pytest.approx(1.69 * 0.985)


def test_names_of_near_points_get_different_places() -> None:
    places = [(100.0, 100.0), (104.0, 100.0), (102.0, 104.0)]
    assert len(set(label_positions(["one", "two", "three"], places, [8.0] * 3))) == 3


def test_a_name_at_the_edge_stays_inside() -> None:
    assert label_positions(["name"], [(200.0, PLOT_PX[1])], [10.0]) == ["bottom center"]
    assert label_positions(["a long name"], [(4.0, 100.0)], [4.0]) == ["middle right"]
