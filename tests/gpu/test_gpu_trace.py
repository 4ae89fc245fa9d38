"""A trace of training on a GPU: PyTorch's profiler sees its kernels, and nearly all of them lead back to a launch."""

from dataclasses import replace

import pytest
import torch

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.probe.ranges import Ranges
from autoresearch_cuda.probe.trace import TorchProfiler, traced_steps
from autoresearch_cuda.train import Trainer
from autoresearch_lab.trace import chrome
from autoresearch_lab.trace.attribute import attribute


def traced(config, dataset, path, steps):
    recorder = TorchProfiler(torch.device("cuda"), path)
    trainer = Trainer(config, Ops.baseline(Ranges(recorder.push, recorder.pop)), dataset, "cuda")
    for _ in range(3):
        trainer.step()
    traced_steps(trainer, recorder, steps, 60.0, lambda _: None)
    return attribute(chrome.read(path, on_gpu=True), steps)


def test_kernels_of_forward_backward_and_optimizer_find_their_targets(config, dataset, tmp_path):
    found = traced(config, dataset, tmp_path / "t.pt.trace.json.gz", 2)
    rows = {row.target: row for row in found.targets}
    # Backward is launched by a thread of autograd's own.
    assert rows["rms_norm"].forward_ms > 0 and rows["rms_norm"].backward_ms > 0
    assert rows["adamw_update"].optimizer_ms > 0 and rows["muon_update"].total_ms > 0
    assert found.steps == 2 and 0 < found.busy_ms < found.step_ms
    assert found.kinds["kernel"] > 0 and found.unlaunched_ms < 0.01 * found.device_ms
    assert found.attributed_ms + found.unattributed_ms == pytest.approx(found.device_ms)
    assert min(found.phases[phase] for phase in ("forward", "backward", "optimizer")) > 0


def test_a_compiled_graph_has_phases_and_no_targets_inside(config, dataset, tmp_path):
    found = traced(replace(config, compile=True), dataset, tmp_path / "t.pt.trace.json.gz", 1)
    assert "rms_norm" not in {row.target for row in found.targets}
    assert found.unattributed_phases["forward"] > 0 and found.unattributed_phases["backward"] > 0
