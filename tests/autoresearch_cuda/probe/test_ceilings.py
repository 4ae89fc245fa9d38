"""Ceilings are measured, rise and fall as physics wants, and say nothing about what was not measured."""

import time

import pytest
import torch

from autoresearch_cuda.probe import JOBS, ceilings
from autoresearch_trainer.errors import ConfigError

CPU = torch.device("cpu")


def measure(**args):
    return JOBS["ceilings"]({"device": "cpu", **args}, None, lambda fields: None)


def test_shape_of_the_answer():
    answer = measure(moved_bytes=[1 << 18, 1 << 20], matmul_sizes=[256])
    assert [size for size, _ in answer["copy_gb_s"]] == [1 << 18, 1 << 20]
    for number, (_, rate) in enumerate(answer["copy_gb_s"]):
        assert rate == max(rows[number][1] for rows in answer["patterns"].values()) > 0.1
    assert answer["matmul_gflop_s"]["float32"] > 1
    assert answer["threads"] == torch.get_num_threads()


def test_emulated_type_is_unknown(monkeypatch):
    monkeypatch.setattr(ceilings, "EMULATED", 1e9)
    assert ceilings.matmul_rate(torch.bfloat16, CPU, (64,)) is None


def test_timer_agrees_with_a_known_duration():
    seconds = ceilings.best_seconds(lambda: time.sleep(0.005), CPU, 0.02)
    assert 0.005 <= seconds < 0.02


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_gpu_is_bad_input():
    with pytest.raises(ConfigError, match="no CUDA device"):
        JOBS["ceilings"]({"device": "cuda"}, None, lambda fields: None)
