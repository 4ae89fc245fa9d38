"""One compiled training step with every Triton kernel, and where an instrumented one spends its time."""

import math

import numpy as np
import pytest
import torch

from autoresearch_cuda.kernel_files import Ops
from autoresearch_cuda.probe.attribution import Recorder, watched
from autoresearch_cuda.probe.clocks import StreamClock
from autoresearch_cuda.probe.profiler import ELSEWHERE
from autoresearch_cuda.train import Trainer
from autoresearch_data.tokens import Tokens
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_trainer.config import GPTConfig, TrainConfig

VOCAB, BOS = 8192, 8191


class Data:
    """Documents that count upwards, with the interface of a dataset."""

    name, fingerprint = "counting", "f" * 64

    class tokenizer:
        vocab_size, bos_id, token_bytes = VOCAB, BOS, np.ones(VOCAB, np.int32)

    def split(self, name: str) -> Tokens:
        rng = np.random.default_rng(1)
        return Tokens.from_documents(
            ((start + np.arange(700)) % BOS).tolist() for start in rng.integers(0, BOS, size=400)
        )


def triton_kernels() -> dict:
    found = {}
    for target in load_catalog(Root()).values():
        for kernel in target.kernels:
            if kernel.language == "triton":
                found.setdefault(target.name, kernel.plain())
    return found


def config(compiled: bool, steps: int = 4) -> TrainConfig:
    model = GPTConfig(1024, VOCAB, n_layer=4, n_head=4, n_kv_head=4, n_embd=512, window_pattern="SSSL")
    return TrainConfig(
        "test", model, batch_size=4, total_batch_tokens=8192, eval_tokens=4096, time_budget=None, steps=steps,
        compile=compiled,
    )  # fmt: skip


def losses(ops: Ops, compiled: bool) -> list[float]:
    trainer = Trainer(config(compiled), ops, Data(), "cuda")
    return [trainer.step().loss for _ in range(3)]


def test_compiled_steps_with_triton_kernels_learn_what_the_baseline_learns():
    torch.compiler.reset()
    expected = losses(Ops.baseline(), compiled=False)
    found = losses(Ops.load(triton_kernels()), compiled=True)
    assert all(math.isfinite(loss) for loss in found)
    assert found == pytest.approx(expected, rel=0.02)


def test_an_instrumented_step_adds_up_and_sees_every_target():
    recorder = Recorder(StreamClock())
    calls = {}

    def wrap(target, function):
        def called(*args):
            if not recorder.active:
                return function(*args)
            calls[target] = calls.get(target, 0) + 1
            return recorder.call(target, function, *args)

        return called

    trainer = Trainer(config(compiled=False), Ops.baseline(wrap), Data(), "cuda")
    for _ in range(3):
        plain = trainer.step().seconds
    trainer.optimizer.step = recorder.timed("optimizer", trainer.optimizer.step)
    with watched(recorder, trainer.model, ELSEWHERE):
        recorder.begin()
        trainer.step()
        record = recorder.end()
    assert {name: share.calls for name, share in record.shares.items() if name in calls} == calls
    parts = sum(share.own_forward + share.own_backward for share in record.shares.values())
    assert 0 < parts <= record.seconds * 1.01
    assert sum(record.phases.values()) <= record.seconds * 1.01
    # Gradients are computed in a thread of the engine's own; their time must be found all the same.
    for name in ("rms_norm", "windowed_attention", "relu_squared", "loss_head"):
        if name in record.shares:
            assert record.shares[name].whole_backward > 0
    assert record.seconds < 20 * plain
