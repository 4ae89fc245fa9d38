"""Traces that the lab did not take: by kernel, range, GPU and process, whatever version wrote them."""

import os
import sqlite3
from contextlib import closing

import pytest

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.trace.anyones import read_attributed
from autoresearch_lab.trace.survey import survey

from .database import AUTOGRAD, MAIN, MS, OTHER_PROCESS, PROCESS, Database, two_steps
from .events import AUTOGRAD as AUTOGRAD_TID
from .events import annotation, event, kernel, launch, operator, write

WORKER = OTHER_PROCESS | 1


def shown(path, **options):
    attributed, tool = read_attributed(path, **options)
    return survey(attributed, path.name, tool)


def named(rows):
    return {row.name: row for row in rows}


def training(path):
    """Two steps of 100 us on a GPU: a layer's forward and backward, a copy, and a kernel in nobody's range."""
    events = []
    for step, zero in enumerate((0.0, 100.0)):
        ids = [step * 10 + number for number in range(4)]
        events += [
            annotation(f"ProfilerStep#{step + 7}", zero, 100.0),
            annotation("layer", zero + 1, 20.0),
            operator("aten::mm", zero + 2, 8.0, sequence=ids[0]),
            launch(ids[0], zero + 4),
            kernel("gemm", ids[0], zero + 10, 30.0),
            operator("autograd::engine::evaluate_function: MmBackward0", zero + 40, 10.0, AUTOGRAD_TID, ids[0], 1),
            operator("aten::mm", zero + 41, 8.0, AUTOGRAD_TID, ids[0] + 5000),
            launch(ids[1], zero + 43, AUTOGRAD_TID),
            kernel("gemm_back", ids[1], zero + 50, 20.0),
            launch(ids[2], zero + 75),
            kernel("nobodys", ids[2], zero + 80, 5.0),
            event("cuda_runtime", "cudaMemcpyAsync", zero + 76, 1.0, correlation=ids[3]),
            event("gpu_memcpy", "Memcpy HtoD", zero + 85, 5.0, 7, pid=0, device=0, stream=7, correlation=ids[3]),
        ]
    return write(path, events, deviceProperties=[{"id": 0, "name": "Test GPU"}])


def test_a_trace_of_pytorch_per_step_with_the_backward_of_its_ranges(tmp_path):
    found = shown(training(tmp_path / "t.json.gz"))
    assert (found.unit, found.steps, found.tool) == ("step", 2, "torch") and found.remarks == []
    (device,) = found.devices
    assert device.model == "Test GPU" and device.step_ms == pytest.approx(0.1)
    assert device.busy_ms == pytest.approx(0.06) and device.idle_share == pytest.approx(0.4)
    # Nothing was queued before 4, 43, 75 and, from the end of the step before, 4 us.
    assert device.host_bound_share == pytest.approx((4 + 3 + 5 + 10 + 4 + 3 + 5) / 200)
    assert device.kinds == pytest.approx({"kernel": 0.055, "copy": 0.005})
    assert (device.work_per_step, device.launches_per_step) == (4, 4)
    (layer,) = found.ranges
    assert layer.name == "layer" and layer.calls_per_step == 1 and layer.host_ms == pytest.approx(0.02)
    assert (layer.forward_ms, layer.backward_ms) == pytest.approx((0.03, 0.02))
    assert named(found.kernels)["nobodys"].under == [] and found.attributed_share == pytest.approx(5 / 6)


def test_kernels_are_mapped_to_targets(tmp_path):
    found = shown(training(tmp_path / "t.json"), mapping=["^gemm=mlp", "nobod=rope"])
    rows = named(found.targets)
    assert rows["mlp"].forward_ms == pytest.approx(0.03) and rows["mlp"].backward_ms == pytest.approx(0.02)
    assert rows["rope"].self_ms == pytest.approx(0.005) and rows["mlp"].launches_per_step == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mapping": ["gemm"]}, "give 'regex=target'"),
        ({"mapping": ["gemm=mpl"]}, "there is no target mpl; known: rms_norm"),
        ({"mapping": ["(=mlp"]}, "is no regular expression"),
        ({"steps": "("}, "is no regular expression"),
        ({"steps": "batch"}, "no range has such a name; the trace's first: ProfilerStep#7"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, options, words):
    with pytest.raises(LabError, match=words.replace("(", r"\(")):
        shown(training(tmp_path / "t.json"), **options)


def test_while_autograds_thread_works_the_range_of_the_waiting_thread_owns_it(tmp_path):
    found = shown(two_steps().write(tmp_path / "t.sqlite"))
    rows = named(found.ranges)
    assert rows["rope"].forward_ms == pytest.approx(1.0) and rows["rope"].backward_ms == pytest.approx(2.0)
    assert rows["backward"].forward_ms == pytest.approx(0.5) and rows["forward"].total_ms == pytest.approx(3.25)
    assert named(found.targets)["qk_prelude"].self_ms == pytest.approx(2.25)  # the lab's own ranges name targets
    assert found.devices[0].step_ms == pytest.approx(10.0) and found.devices[0].idle_share == pytest.approx(0.275)


def test_where_two_other_threads_have_ranges_open_nobody_owns_the_work(tmp_path):
    base = Database()
    for thread in (MAIN, PROCESS | 3):
        base.range("loop", 0.0, 10.0, thread)
    base.kernel("k", 5.0, 5.0, 6.0, thread=AUTOGRAD)
    assert named(shown(base.write(tmp_path / "t.sqlite")).ranges)["loop"].total_ms == 0


@pytest.mark.parametrize("tables", [("NVTX_EVENTS",), ("NVTX_EVENTS", "CUPTI_ACTIVITY_KIND_KERNEL", "StringIds")])
def test_tables_that_a_version_renamed_are_the_same_tables(tmp_path, tables):
    plain = shown(two_steps().write(tmp_path / "t.sqlite"))
    (tmp_path / "new").mkdir()
    assert shown(two_steps().write(tmp_path / "new" / "t.sqlite", renamed=tables)) == plain


def test_start_end_ranges_and_domains_are_ranges(tmp_path):
    base = Database()
    base.range("request", 0.0, 10.0, kind=60)
    base.range("decode", 1.0, 4.0)
    base.rows["NVTX_EVENTS"].append((0, None, 75, "NCCL", PROCESS, None, None, 3))
    base.rows["NVTX_EVENTS"].append((5 * MS, 6 * MS, 59, "ncclSend", MAIN, None, None, 3))
    base.kernel("a", 2.0, 2.0, 3.0)
    base.kernel("b", 5.5, 6.0, 8.0)
    base.kernel("c", 9.0, 9.0, 9.5)
    rows = named(shown(base.write(tmp_path / "t.sqlite")).ranges)
    assert rows["decode"].self_ms == pytest.approx(1.0) and rows["NCCL: ncclSend"].self_ms == pytest.approx(2.0)
    assert rows["request"].self_ms == pytest.approx(0.5) and rows["request"].total_ms == pytest.approx(3.5)


def test_ranges_of_emit_nvtx_link_forward_and_backward(tmp_path):
    base = Database()
    base.range("encoder", 0.0, 4.0)
    base.range("aten::mm, seq = 12, op_id = 3, sizes = [[2, 2]]", 1.0, 2.0)
    base.range("autograd::engine::evaluate_function: MmBackward0, op_id = 9", 5.0, 7.0, AUTOGRAD)
    base.range("MmBackward0, seq = 12, op_id = 10", 5.1, 6.9, AUTOGRAD)
    base.kernel("mm", 1.5, 2.0, 3.0)
    base.kernel("mm_back", 6.0, 6.0, 8.0, thread=AUTOGRAD)
    (encoder,) = shown(base.write(tmp_path / "t.sqlite")).ranges
    assert (encoder.forward_ms, encoder.backward_ms) == pytest.approx((1.0, 2.0))


def test_an_annotated_trace_without_ranges_of_the_users_own_shows_pytorchs_operators(tmp_path):
    base = Database()
    base.range("aten::linear, op_id = 1", 1.0, 3.0)
    base.range("aten::mm, seq = 0, op_id = 2", 1.1, 2.9)
    base.kernel("mm", 2.0, 2.0, 5.0)
    found = shown(base.write(tmp_path / "t.sqlite"))
    rows = named(found.ranges)
    assert rows["aten::mm"].self_ms == pytest.approx(3.0) and rows["aten::linear"].total_ms == pytest.approx(3.0)
    assert any("PyTorch's operators stand for them" in remark for remark in found.remarks)


def test_two_processes_on_two_gpus_are_apart(tmp_path):
    base = Database()
    for process, device, length in ((PROCESS, 0, 2.0), (OTHER_PROCESS, 1, 1.0)):
        for step in range(3):
            base.range(f"step {step}", step * 10.0, step * 10.0 + 10.0, process | 1)
            base.range("work", step * 10.0 + 1, step * 10.0 + 3, process | 1)
            base.kernel("k", step * 10.0 + 2, step * 10.0 + 4, step * 10.0 + 4 + length, process | 1, process, device)
    # Ids are unique within a process only.
    rows = base.rows["CUPTI_ACTIVITY_KIND_KERNEL"]
    base.rows["CUPTI_ACTIVITY_KIND_KERNEL"] = [(*row[:4], (row[4] - 1) % 3, *row[5:]) for row in rows]
    calls = base.rows["CUPTI_ACTIVITY_KIND_RUNTIME"]
    base.rows["CUPTI_ACTIVITY_KIND_RUNTIME"] = [(*row[:4], (row[4] - 1) % 3, *row[5:]) for row in calls]
    found = shown(base.write(tmp_path / "t.sqlite"))
    devices = named(found.devices)
    assert list(devices) == ["GPU 0, process 4242", "GPU 1, process 4243"] and found.steps == 3
    busy = [device.busy_ms for device in devices.values()]
    assert busy == pytest.approx([2.0, 1.0]) and devices["GPU 1, process 4243"].idle_share == pytest.approx(0.9)
    (work,) = found.ranges
    assert work.self_ms == pytest.approx(3.0) and work.calls_per_step == 2
    assert found.kernels[0].devices == pytest.approx({"GPU 0, process 4242": 2.0, "GPU 1, process 4243": 1.0})


def test_work_that_does_not_say_whose_it_is_is_not_guessed(tmp_path):
    base = Database()
    for thread in (MAIN, WORKER):
        base.range("mine", 0.0, 9.0, thread)
    base.kernel("a", 1.0, 2.0, 3.0)
    base.rows["CUPTI_ACTIVITY_KIND_RUNTIME"].append((2 * MS, 2 * MS, 1, WORKER, 1, 1, 0))
    path = base.write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN globalPid")
    found = shown(path)
    assert named(found.ranges)["mine"].total_ms == 0 and found.device_ms == pytest.approx(1.0)
    assert any("used by several processes" in remark for remark in found.remarks)


def test_two_processes_in_one_file_of_pytorch(tmp_path):
    """Merged files: the ids are the same, and GPU events do not name their process."""
    events = []
    for rank, pid in enumerate((11, 12)):
        events += [annotation(f"rank {rank}", 1.0 + rank * 50, 20.0, pid=pid), launch(5, 2.0 + rank * 50, pid=pid),
                   kernel("k", 5, 10.0 + rank * 50, 10.0 * (rank + 1), device=rank)]  # fmt: skip
    found = shown(write(tmp_path / "t.json", events))
    rows = named(found.ranges)
    assert rows["rank 0"].self_ms == pytest.approx(0.01) and rows["rank 1"].self_ms == pytest.approx(0.02)
    assert [device.name for device in found.devices] == ["GPU 0, process 11", "GPU 1, process 12"]


def test_one_launch_of_a_cuda_graph_is_one_launch(tmp_path):
    events = [annotation("replay", 0.0, 5.0), event("cuda_runtime", "cudaGraphLaunch", 1.0, 2.0, correlation=9)]
    events += [kernel(f"node {number}", 9, 10.0 + number, 1.0) for number in range(20)]
    found = shown(write(tmp_path / "t.json", events))
    assert found.devices[0].work_per_step == 20 and found.devices[0].launches_per_step == 1
    assert named(found.ranges)["replay"].launches_per_step == 1
    assert found.attributed_share == pytest.approx(1)


def test_a_graph_whose_kernels_are_there_is_not_counted_twice(tmp_path):
    base = Database()
    base.kernel("whole", 1.0, 2.0, 4.0)
    base.kernel("node", 5.0, 6.0, 7.0)
    path = base.write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = "start, end, deviceId, streamId, correlationId, globalPid, graphId"
        connection.execute(f"CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE ({columns})")
        connection.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL ADD COLUMN graphNodeId INTEGER")
        connection.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET graphNodeId = 77 WHERE correlationId = 2")
        for correlation in (2, 3):
            row = (6 * MS, 7 * MS, 0, 7, correlation, PROCESS, 5)
            connection.execute("INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    found = shown(path)
    kinds = [(row.kind, row.ms) for row in found.kernels]
    assert kinds == [("kernel", pytest.approx(2.0)), ("graph", pytest.approx(1.0)), ("kernel", pytest.approx(1.0))]
    assert any("--cuda-graph-trace=node" in remark for remark in found.remarks)


def test_pages_of_managed_memory_move_without_a_launch(tmp_path):
    base = Database()
    base.kernel("k", 0.0, 1.0, 2.0)
    base.copy(0.0, 1.5, 2.5, thread=None, kind=11)
    base.copy(0.0, 2.5, 3.0, thread=None, kind=12)
    found = shown(base.write(tmp_path / "t.sqlite"))
    (device,) = found.devices
    assert device.work_per_step == 3 and device.launches_per_step == 1
    assert device.kinds == pytest.approx({"kernel": 1.0, "migration": 1.5})
    assert {row.name for row in found.kernels if row.kind == "migration"} == {
        "migration host to device", "migration device to host",
    }  # fmt: skip
    assert not any("launching call" in remark for remark in found.remarks)


def test_work_and_ranges_without_an_end(tmp_path):
    base = Database()
    base.range("open", 0.0, None)
    base.kernel("done", 1.0, 1.0, 2.0)
    base.kernel("running", 3.0, 3.0, None)
    found = shown(base.write(tmp_path / "t.sqlite"))
    assert named(found.ranges)["open"].self_ms == pytest.approx(1.0)
    assert "1 pieces of the device's work have no end: they are left out" in found.remarks
    endless = {**kernel("running", 2, 5.0, 0.0), "dur": None}
    lost = {**kernel("lost", 3, 5.0, 1.0), "ts": float("nan")}
    left = {**annotation("open", 0.0, 0.0), "dur": float("nan")}
    found = shown(write(tmp_path / "t.json", [left, launch(1, 1.0), kernel("done", 1, 2.0, 3.0), endless, lost]))
    assert found.device_ms == pytest.approx(0.003) and named(found.ranges)["open"].self_ms == pytest.approx(0.003)
    assert [remark for remark in found.remarks if "left out" in remark] == [
        "1 events have no time that is a number: they are left out",
        "1 pieces of the device's work have no end: they are left out",
    ]


def test_names_that_are_no_utf8(tmp_path):
    base = Database()
    base.range("mine", 0.0, 5.0)
    base.kernel("k", 1.0, 1.0, 2.0)
    path = base.write(tmp_path / "t.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE NVTX_EVENTS SET text = CAST(x'6dff' AS TEXT)")
        connection.execute("UPDATE StringIds SET value = CAST(x'fe6b' AS TEXT)")
    found = shown(path)
    assert [row.name for row in found.ranges] == ["m\ufffd"] and found.kernels[0].name == "\ufffdk"


def test_an_amd_trace_is_read_like_any_other(tmp_path):
    events = [annotation("mine", 0.0, 5.0),
              event("cuda_runtime", "hipExtModuleLaunchKernel", 1.0, 2.0, correlation=3, cid=153),
              kernel("Cijk_Alik_Bljk", 3, 4.0, 6.0, device=2)]  # fmt: skip
    found = shown(write(tmp_path / "t.json", events, hip_runtime_version=60443483))
    assert found.tool_version == "hip_runtime 60443483" and named(found.ranges)["mine"].self_ms == pytest.approx(0.006)


def test_on_a_cpu_operators_are_the_work(tmp_path):
    events = [annotation("layer", 0.0, 20.0), operator("aten::mm", 1.0, 10.0, sequence=4),
              operator("autograd::engine::evaluate_function: MmBackward0", 30.0, 20.0, sequence=4, forward_thread=1),
              operator("aten::mm", 31.0, 15.0, sequence=9)]  # fmt: skip
    found = shown(write(tmp_path / "t.json", events))
    (layer,) = found.ranges
    assert (layer.forward_ms, layer.backward_ms) == pytest.approx((0.01, 0.02))
    assert found.devices[0].name == "CPU" and found.devices[0].host_bound_share is None
    assert named(found.kernels)["aten::mm"].ms == pytest.approx(0.025)


def test_what_pytorch_annotates_by_itself_does_not_hide_operators(tmp_path):
    events = [annotation("Optimizer.step#Adam.step", 50.0, 9.0), operator("aten::mm", 1.0, 9.0), launch(1, 2.0),
              kernel("gemm", 1, 3.0, 4.0)]  # fmt: skip
    assert named(shown(write(tmp_path / "t.json", events)).ranges)["aten::mm"].self_ms == pytest.approx(0.004)


def test_steps_without_work_are_told_of(tmp_path):
    events = [annotation("ProfilerStep#1", 500.0, 10.0), launch(1, 2.0), kernel("gemm", 1, 3.0, 4.0)]
    found = shown(write(tmp_path / "t.json", events))
    assert found.unit == "trace" and "no work was launched within its steps: the whole trace counts" in found.remarks


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.txt", b"hello", "neither an Nsight Systems export"),
        ("t.sqlite", b"x" * 5000, "not a database of nsys export"),
        ("t.json", b'{"traceEvents": []}', "shows no work of a device, and no operators of PyTorch"),
        ("t.nsys-rep", b"\x00\x01", "needs nsys, which is not on this machine: nsys export --type=sqlite t.nsys-rep"),
    ],
)
def test_what_is_no_trace_is_one_line(tmp_path, monkeypatch, name, content, words):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LabError, match=words):
        shown(tmp_path / name)
    with pytest.raises(LabError, match="cannot read"):
        shown(tmp_path / "none")


def test_a_report_is_exported_where_nsys_is(tmp_path, monkeypatch):
    database = two_steps().write(tmp_path / "made.sqlite")
    program = tmp_path / "nsys"
    program.write_text(f'#!/bin/sh\nfor a; do case $a in --output=*) cp {database} "${{a#--output=}}";; esac; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "t.nsys-rep").write_bytes(b"\x00\x01")
    assert shown(tmp_path / "t.nsys-rep").device_ms == pytest.approx(7.25)
    program.write_text("#!/bin/sh\necho 'error: a report of a newer version' >&2; exit 1\n")
    with pytest.raises(LabFailure, match="nsys export: error: a report of a newer version"):
        shown(tmp_path / "t.nsys-rep")


def test_a_database_without_work_names_the_missing_tables(tmp_path):
    base = Database()
    base.range("mine", 0.0, 1.0)
    with pytest.raises(LabError, match="it has no table CUPTI_ACTIVITY_KIND_KERNEL, _MEMCPY"):
        shown(base.write(tmp_path / "t.sqlite"))
    base.kernel("k", 0.5, 0.5, 0.6)
    found = shown(base.write(tmp_path / "u.sqlite", without=("CUPTI_ACTIVITY_KIND_RUNTIME",)))
    assert any("no table CUPTI_ACTIVITY_KIND_RUNTIME" in remark for remark in found.remarks)
