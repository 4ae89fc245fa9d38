"""A small in-memory dataset with the interface of autoresearch_data.dataset.Dataset, and a model that fits it."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from autoresearch_cuda.config import GPTConfig, TrainConfig
from autoresearch_data.tokens import Tokens

VOCAB = 64
BOS = VOCAB - 1


def _split(seed: int, documents: int) -> Tokens:
    """Documents that count upwards with a random stride, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 60, size=documents)
    starts, strides = rng.integers(0, BOS, size=documents), rng.integers(1, 4, size=documents)
    return Tokens.from_documents(
        ((start + stride * np.arange(length)) % BOS).tolist()
        for start, stride, length in zip(starts, strides, lengths, strict=True)
    )


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors here are far too small to share between threads; two of them only wait for each other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset() -> SimpleNamespace:
    splits = {"train": _split(1, 3000), "val": _split(2, 400)}
    token_bytes = (np.arange(VOCAB, dtype=np.int32) % 5) + 1
    token_bytes[BOS] = 0
    tokenizer = SimpleNamespace(vocab_size=VOCAB, bos_id=BOS, token_bytes=token_bytes)
    return SimpleNamespace(name="counting", fingerprint="f" * 64, tokenizer=tokenizer, split=splits.__getitem__)


@pytest.fixture
def config() -> TrainConfig:
    """Three layers (two short windows, value embeddings on the outer two), two micro-batches of 2 x 32 tokens."""
    model = GPTConfig(32, VOCAB, n_layer=3, n_head=2, n_kv_head=2, n_embd=32, window_pattern="SSL")
    return TrainConfig(
        "test", model, batch_size=2, total_batch_tokens=128, eval_tokens=256, time_budget=None, steps=14, seed=3
    )


@pytest.fixture(scope="session")
def restatement() -> ModuleType:
    """The independent float64 form of model and optimizer, restatement.py."""
    spec = importlib.util.spec_from_file_location("restatement", Path(__file__).with_name("restatement.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
