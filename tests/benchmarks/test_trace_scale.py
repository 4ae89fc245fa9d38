"""Synthetic traces of both formats show the same, and 3 MB of trace are read in 3 s of a processor."""

import time

import pytest

from autoresearch_lab.trace.anyones import read_attributed
from autoresearch_lab.trace.survey import survey
from benchmarks.trace_scale import KERNELS, write_database, write_json


def surveyed(path):
    attributed, tool = read_attributed(path)
    return survey(attributed, path.name, tool)


def test_both_formats_show_the_same(tmp_path):
    write_database(tmp_path / "t.sqlite", 2000)
    write_json(tmp_path / "t.json", 2000)
    found = [surveyed(tmp_path / name) for name in ("t.sqlite", "t.json")]
    for one in found:
        assert (one.steps, len(one.ranges), len(one.kernels)) == (2, 50, KERNELS)
        assert one.device_ms == pytest.approx(8.0) and one.attributed_share == pytest.approx(1)
    for old, new in zip(found[0].kernels, found[1].kernels, strict=True):
        assert (old.name, old.calls_per_step) == (new.name, new.calls_per_step)
        assert old.ms == pytest.approx(new.ms) and len(old.under) == 3
    assert found[0].devices[0].idle_share == pytest.approx(found[1].devices[0].idle_share, abs=1e-3)


@pytest.mark.alone
def test_three_megabytes_are_read_within_three_seconds(tmp_path):
    write_json(tmp_path / "t.json", 3000)
    assert (tmp_path / "t.json").stat().st_size > 3e6
    began = time.process_time()
    surveyed(tmp_path / "t.json")
    assert time.process_time() - began < 3
