"""Nsight Systems' database: kernels find the ranges that launched them, and what is missing is not guessed."""

import sqlite3
from contextlib import closing

import pytest

from autoresearch_lab.errors import LabError
from autoresearch_lab.trace.attribute import attribute
from autoresearch_lab.trace.nsys_database import read

from .database import AUTOGRAD, MAIN, OTHER_PROCESS, Database, two_steps


def attributed(base, tmp_path, **options):
    return attribute(read(base.write(tmp_path / "trace.sqlite", **options)), steps=2).plain()


def test_device_time_goes_to_the_innermost_range_of_the_launching_thread(tmp_path):
    found = attributed(two_steps(), tmp_path)
    rows = {row["target"]: row for row in found["targets"]}
    assert found["steps"] == 2 and found["step_ms"] == pytest.approx(10.0)
    rope, prelude, muon = rows["rope"], rows["qk_prelude"], rows["muon_update"]
    assert rope["forward_ms"] == pytest.approx(1.0) and rope["backward_ms"] == pytest.approx(2.0)
    assert prelude["forward_ms"] == pytest.approx(2.25) and prelude["total_ms"] == pytest.approx(3.25)
    assert muon["optimizer_ms"] == pytest.approx(1.0) and muon["forward_ms"] == 0
    assert rope["calls_per_step"] == 1 and rope["launches_per_step"] == 2 and prelude["launches_per_step"] == 2
    # The kernel in no target's range, and the copy; what ran after the steps is nobody's.
    assert found["unattributed_ms"] == pytest.approx(1.0) and found["device_ms"] == pytest.approx(7.25)
    outside = {"forward": 0.0, "backward": 0.5, "optimizer": 0.0, "data": 0.0, "other": 0.5}
    assert found["unattributed_phases"] == pytest.approx(outside)
    assert found["attributed_ms"] + found["unattributed_ms"] == pytest.approx(found["device_ms"])
    assert found["kinds"] == pytest.approx({"kernel": 6.5, "copy": 0.5, "set": 0.25})
    assert not any("set_up" in kernel["name"] for kernel in found["kernels"])


def test_idle_share_and_phases_are_those_of_the_steps(tmp_path):
    found = attributed(two_steps(), tmp_path)
    # 0.6-3.85, 4.0-6.5, 6.6-7.6 and 9.5-10 of each ten.
    assert found["busy_ms"] == pytest.approx(7.25) and found["idle_share"] == pytest.approx(0.275)
    phases = {"forward": 3.25, "backward": 2.5, "optimizer": 1.0, "data": 0.0, "other": 0.5}
    assert found["phases"] == pytest.approx(phases)  # launched on autograd's thread, while the main one waits


def test_busiest_kernels_say_who_launched_them(tmp_path):
    kernels = attributed(two_steps(), tmp_path)["kernels"]
    assert [kernel["name"] for kernel in kernels[:2]] == ["void normalise<float>()", "void rotate_back<float>()"]
    assert kernels[1]["under"] == ["rope backward"] and kernels[1]["calls_per_step"] == 1
    assert next(kernel for kernel in kernels if kernel["kind"] == "copy")["name"] == "copy host to device"
    assert next(kernel for kernel in kernels if "gemm" in kernel["name"])["under"] == []


def test_overlapping_work_is_busy_once_and_counted_twice(tmp_path):
    base = Database()
    base.range("training step", 0.0, 4.0)
    base.range("rope", 0.0, 1.0)
    base.kernel("a", 0.5, 1.0, 3.0)
    base.kernel("b", 0.6, 2.0, 4.0)
    found = attribute(read(base.write(tmp_path / "t.sqlite")), steps=1).plain()
    assert found["device_ms"] == pytest.approx(4.0) and found["busy_ms"] == pytest.approx(3.0)


def test_ranges_of_another_thread_or_kind_or_process_own_nothing(tmp_path):
    base = Database()
    base.range("training step", 0.0, 10.0)
    base.range("rope", 0.0, 5.0, thread=AUTOGRAD)
    base.range("mlp", 0.0, 5.0, thread=MAIN, kind=60)  # a start-end range lies on no thread
    base.range("rms_norm", 0.0, 5.0, thread=OTHER_PROCESS | 1)
    base.kernel("elsewhere", 1.0, 1.0, 2.0)
    base.kernel("of_a_worker", 1.5, 2.0, 3.0, process=OTHER_PROCESS)  # the same ids mean another call there
    found = attributed(base, tmp_path)
    assert found["attributed_ms"] == 0 and found["unattributed_ms"] == pytest.approx(found["device_ms"])
    assert found["unlaunched_ms"] == pytest.approx(1.0)


def test_a_range_left_open_lasts_to_the_end(tmp_path):
    base = Database()
    base.range("training step", 0.0, 10.0)
    base.range("rope", 1.0, None)
    base.kernel("late", 8.0, 8.0, 9.0)
    assert attributed(base, tmp_path)["attributed_ms"] > 0


@pytest.mark.parametrize(
    ("table", "attributed_ms", "device_ms"),
    [
        ("NVTX_EVENTS", 0.0, 9.75),  # without steps its whole extent counts
        ("CUPTI_ACTIVITY_KIND_RUNTIME", 0.0, 7.25),
        ("CUPTI_ACTIVITY_KIND_MEMCPY", 6.25, 6.75),
        ("CUPTI_ACTIVITY_KIND_MEMSET", 6.0, 7.0),
        ("CUPTI_ACTIVITY_KIND_KERNEL", 0.25, 0.75),
    ],
)
def test_tables_that_are_not_there(tmp_path, table, attributed_ms, device_ms):
    found = attributed(two_steps(), tmp_path, without=(table,))
    assert (found["attributed_ms"], found["device_ms"]) == pytest.approx((attributed_ms, device_ms))


def test_without_strings_kernels_have_no_names_and_registered_ranges_are_lost(tmp_path):
    found = attributed(two_steps(), tmp_path, without=("StringIds",))
    assert {kernel["name"] for kernel in found["kernels"] if kernel["kind"] == "kernel"} == {"unnamed kernel"}


def test_what_is_no_database_or_lacks_a_column_is_one_line(tmp_path):
    path = tmp_path / "t.sqlite"
    with pytest.raises(LabError, match="is not there"):
        read(path)
    path.write_text("this is no database, and long enough to be looked at" * 40)
    with pytest.raises(LabError, match="not a database of nsys export"):
        read(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER)")
    with pytest.raises(LabError, match="has no column correlationId, end"):
        read(path)
    assert read(Database().write(tmp_path / "empty.sqlite")).work == []
