"""The file of PyTorch's profiler: GPU work through correlation or external ids, CPU operators by their own time."""

import pytest

from autoresearch_lab.errors import LabError
from autoresearch_lab.trace.attribute import attribute
from autoresearch_lab.trace.chrome import read

from .events import AUTOGRAD, STREAM, event, write


def on_gpu():
    return [
        event("user_annotation", "training step", 0.0, 100.0),
        event("user_annotation", "forward", 0.0, 20.0),
        event("user_annotation", "rope", 5.0, 10.0),
        event("gpu_user_annotation", "rope", 10.0, 30.0, STREAM),
        event("user_annotation", "rope backward", 40.0, 10.0, AUTOGRAD),
        event("cpu_op", "aten::mul", 6.0, 4.0, **{"External id": 11}),
        event("cuda_runtime", "cudaLaunchKernel", 7.0, 1.0, correlation=1),
        event("cuda_driver", "cuLaunchKernelEx", 42.0, 1.0, AUTOGRAD, correlation=2),
        event("cuda_runtime", "cudaMemcpyAsync", 60.0, 1.0, correlation=3),
        event("kernel", "rotate", 10.5, 20.0, STREAM, correlation=1),
        event("kernel", "rotate_back", 45.0, 10.0, STREAM, correlation=2),
        event("gpu_memcpy", "Memcpy HtoD", 62.0, 5.0, STREAM, correlation=3),
        event("kernel", "by_operator", 70.0, 5.0, STREAM, correlation=99, **{"External id": 11}),
    ]


@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_kernels_find_their_range_through_the_call_that_launched_them(tmp_path, name):
    found = attribute(read(write(tmp_path / name, on_gpu()), on_gpu=True), steps=1).plain()
    (rope,) = found["targets"]
    assert rope["forward_ms"] == pytest.approx(0.025) and rope["backward_ms"] == pytest.approx(0.010)
    assert rope["calls_per_step"] == 1 and found["unattributed_ms"] == pytest.approx(0.005)
    assert found["busy_ms"] == pytest.approx(0.040) and found["idle_share"] == pytest.approx(0.6)
    assert found["kinds"] == pytest.approx({"kernel": 0.035, "copy": 0.005})


def test_on_a_cpu_operators_count_without_those_inside_them(tmp_path):
    events = [
        event("user_annotation", "training step", 0.0, 100.0),
        event("cpu_op", "autograd::engine", 10.0, 40.0),
        event("user_annotation", "rope backward", 12.0, 36.0),
        event("cpu_op", "aten::mul", 15.0, 30.0),
        event("cpu_op", "aten::to", 20.0, 10.0),
        event("cpu_op", "aten::copy_", 22.0, 6.0),
        event("cpu_op", "aten::add", 60.0, 10.0),
    ]
    found = attribute(read(write(tmp_path / "t.json", events), on_gpu=False), steps=1).plain()
    (rope,) = found["targets"]
    assert rope["backward_ms"] == pytest.approx(0.030)  # the node's own 10 us began before the range
    assert found["device_ms"] == pytest.approx(0.050) and found["busy_ms"] == pytest.approx(0.050)
    times = {kernel["name"]: kernel["ms"] for kernel in found["kernels"]}
    assert times["aten::mul"] == pytest.approx(0.020) and times["aten::to"] == pytest.approx(0.004)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\x1f\x8b broken", b"not json", b'{"traceEvents": 3}'])
def test_what_is_no_trace_is_one_line(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(LabError, match="not a trace of PyTorch's profiler"):
        read(path, on_gpu=True)
    with pytest.raises(LabError, match="is not there"):
        read(tmp_path / "none.json", on_gpu=True)
