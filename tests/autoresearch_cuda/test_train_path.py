"""How many files of this project stand between `train.py` and the first optimizer step, kernel files apart."""

import sys
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace

import numpy as np
import pytest

from autoresearch_cuda.optim import MuonAdamW
from autoresearch_data.tokens import Tokens
from autoresearch_lab import training
from autoresearch_lab.cli.train import main
from autoresearch_lab.paths import CHECKOUT

VOCAB = 8192
MOST_FILES = 15


class TrainPath:
    """A profiler (sys.setprofile) that notes files until the optimizer's first step.

    executed: project files of which a function ran. chain: those on the stack at that moment, outermost first.
    """

    def __init__(self) -> None:
        self.executed: set[str] = set()
        self.chain: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        file = _project_file(frame.f_code)
        if file:
            self.executed.add(file)
        if frame.f_code is MuonAdamW.step.__wrapped__.__code__:
            sys.setprofile(None)
            link: FrameType | None = frame
            files = []
            while link is not None:
                files.append(_project_file(link.f_code))
                link = link.f_back
            self.chain = list(dict.fromkeys(file for file in reversed(files) if file))


def _project_file(code: CodeType) -> str | None:
    """Path below the checkout; None outside of the packages, for kernel files, and for what is no function: the top
    level of a module, the body of a class."""
    path = Path(code.co_filename)
    if not code.co_flags & CO_OPTIMIZED or not path.is_relative_to(CHECKOUT):
        return None
    name = path.relative_to(CHECKOUT).as_posix()
    return name if name.startswith("autoresearch_") else None


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainPath:
    (tmp_path / "kernels").symlink_to(CHECKOUT / "kernels")
    (tmp_path / "data" / "numbers").mkdir(parents=True)
    (tmp_path / "data" / "numbers" / "dataset.json").write_text("{}")
    rng = np.random.default_rng(0)
    splits = {name: Tokens.from_documents(rng.integers(4, VOCAB, (60, 300)).tolist()) for name in ("train", "val")}
    tokenizer = SimpleNamespace(vocab_size=VOCAB, bos_id=0, token_bytes=np.ones(VOCAB, dtype=np.int32))
    dataset = SimpleNamespace(name="numbers", fingerprint="f" * 64, tokenizer=tokenizer, split=splits.__getitem__)
    monkeypatch.setattr(training, "open_dataset", lambda folder: dataset)
    found = TrainPath()
    sys.setprofile(found)
    try:
        arguments = "--engine cpu --preset cpu-nano --kernels baseline --smoke --compile off".split()
        assert main(["--root", str(tmp_path), *arguments]) == 0
    finally:
        sys.setprofile(None)
    return found


def test_a_step_is_reached_through_few_files(measured: TrainPath):
    print(f"executed: {len(measured.executed)}\n  " + "\n  ".join(sorted(measured.executed)))
    print(f"call chain: {len(measured.chain)}\n  " + "\n  ".join(measured.chain))
    assert measured.chain[0] == "autoresearch_lab/cli/train.py" and measured.chain[-1] == "autoresearch_cuda/optim.py"
    assert len(measured.chain) + 1 <= MOST_FILES  # and train.py itself
