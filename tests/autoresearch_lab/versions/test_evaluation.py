"""val_bpb by the lab from a side's logits: equal to the trainer's own, and what is no honest model is refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autoresearch_data.bpb import bits_per_byte
from autoresearch_data.tokens import Tokens
from autoresearch_lab.versions import evaluation
from autoresearch_lab.versions.evaluation import NotEvaluated, evaluate
from autoresearch_lab.versions.sides import Side
from autoresearch_trainer.config import GPTConfig, Preset

VOCAB, LENGTH, BATCH = 16, 32, 4
BASE = Preset(GPTConfig(LENGTH, VOCAB, 1, 1, 1, 32, "L"), BATCH, BATCH * LENGTH, 2 * BATCH * LENGTH)
# A side's package: its model knows that token 1 follows token 0, and so on; it is that sure of it.
ENGINE = """
import torch
from types import SimpleNamespace

SURE, KIND = {sure}, {kind!r}

class Ops:
    @staticmethod
    def load(selection): return None

def prepare_process():
    print("said to nobody")

class Model:
    config = SimpleNamespace(sequence_len={length}, vocab_size=16)
    def __call__(self, ids):
        if KIND == "broken": raise RuntimeError("no such weights")
        seen = (ids + 1) % 16 if KIND != "looks ahead" else ids.roll(-1, 1)
        return SURE * torch.nn.functional.one_hot(seen, 16).float()

def load_model(path, ops, device):
    if KIND == "lies":
        torch.logsumexp = lambda x, dim: x.max(dim).values
    return Model()
"""


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    documents = [(np.arange(size) % VOCAB).tolist() for size in rng.integers(20, 60, 40)]
    tokenizer = SimpleNamespace(bos_id=0, token_bytes=np.full(VOCAB, 2, np.int32))
    dataset = SimpleNamespace(tokenizer=tokenizer, split=lambda name: Tokens.from_documents(documents))
    monkeypatch.setattr(evaluation, "open_dataset", lambda folder: dataset)
    (tmp_path / "tree" / "side_engine").mkdir(parents=True)

    def run(kind: str = "honest", sure: float = 3.0, length: int = LENGTH):
        text = ENGINE.format(sure=sure, kind=kind, length=length)
        (tmp_path / "tree" / "side_engine" / "engine.py").write_text(text)
        side = Side("b", "x", "c", "t", tmp_path / "tree")
        return evaluate(side, tmp_path / "weights.safetensors", BASE, None, ("side_engine", "cpu"))

    return run


def test_the_figure_is_that_of_the_logits(tried):
    found = tried().val_bpb
    # Right but after a document's end: of each token log(e^3 + 15) - 3 nats, or log(e^3 + 15) where it is wrong.
    assert bits_per_byte(np.log(np.exp(3) + 15) - 3, 2) < found < bits_per_byte(np.log(np.exp(3) + 15) - 2.5, 2)


@pytest.mark.parametrize(
    ("kind", "message", "cheats"),
    [("looks ahead", "looks at tokens that it is to predict", True),
     ("lies", "its losses are not those of its logits", True),
     ("broken", "its model gives no losses: RuntimeError: no such weights", False)],
)  # fmt: skip
def test_what_is_no_honest_model_is_refused(tried, kind: str, message: str, cheats: bool):
    with pytest.raises(NotEvaluated, match=message) as refused:
        tried(kind)
    assert refused.value.cheats is cheats


def test_another_length_is_another_measure(tried):
    with pytest.raises(NotEvaluated, match="evaluates another model"):
        tried(length=64)
