"""The rows of the report's tables."""

from __future__ import annotations

import pytest

from autoresearch_lab.report.views import Source, speed_rows
from autoresearch_lab.results.bench import ArmTime
from autoresearch_lab.results.record import BenchRecord


@pytest.mark.parametrize("against", ["torch_eager", "torch_library"])
def test_a_speed_up_stands_beside_the_times_that_it_comes_from(empty, against: str) -> None:
    record = empty.bench("rms_norm", 0.8, "SLOWER")
    assert isinstance(record, BenchRecord)
    record.results.against = against
    record.results.arms = [
        ArmTime(role="baseline", name="torch_eager", ms=20.0),
        ArmTime(role="library", name="torch_library", ms=15.4),
    ]
    first, *others = speed_rows(Source(record))
    whole = [row for row in others if row.arm == "candidate" and row.direction == "both"]
    (library,) = [row for row in others if row.arm == "library"]
    assert first.verdict == "SLOWER" and first.arm_ms == 25.0
    if against == "torch_eager":
        assert (first.baseline_ms, first.against, whole) == (20.0, "", [])
    else:
        assert (first.baseline_ms, first.against) == (15.4, "torch_library")
        assert [(row.baseline_ms, row.arm_ms, row.verdict) for row in whole] == [(20.0, 25.0, None)]
    assert (library.baseline_ms, library.arm_ms) == (20.0, 15.4)
