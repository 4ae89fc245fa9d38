"""Run as a script in a side's tree: what that side's model makes of weights that its training left.

    python -P logits.py ENGINE_PACKAGE DEVICE WEIGHTS ROWS LENGTH FILE

The lab sends inputs and is told when their logits lie in FILE; only then it sends the targets, and gets the losses in
nats. So the side's model never sees what it is to predict before it has predicted, and the lab can look at the logits
that the losses are said to come from. Inputs and targets are int32 (ROWS, LENGTH), losses float64, logits float32.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

READY = b"."


def main(package: str, device: str, weights: str, rows: int, length: int, file: str) -> None:
    """Serve until the lab closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what the side prints is no answer
    engine: Any = importlib.import_module(f"{package}.engine")
    engine.prepare_process()
    model = engine.load_model(Path(weights), engine.Ops.load(None), device)
    vocabulary = model.config.vocab_size
    shared = np.memmap(file, np.float32, "w+", shape=(rows, length, vocabulary))
    about = {"sequence_len": model.config.sequence_len, "vocab_size": vocabulary}
    answers.write(json.dumps(about).encode() + b"\n")
    serve = _mlx if package.endswith("mlx") else _torch
    serve(model, device, sys.stdin.buffer, answers, shared)


def _read(pipe: BinaryIO, like: np.ndarray) -> np.ndarray:
    """Ids of every place of `like`; ends the process where the lab has closed the pipe."""
    shape = like.shape[:2]
    raw = pipe.read(4 * shape[0] * shape[1])
    if not raw:
        sys.exit(0)
    return np.frombuffer(raw, np.int32).reshape(shape).copy()


def _torch(model: Any, device: str, pipe: BinaryIO, answers: Any, shared: np.ndarray) -> None:
    import torch

    with torch.no_grad():
        while True:
            logits = model(torch.from_numpy(_read(pipe, shared)).to(device, torch.int64)).float()
            shared[:] = logits.cpu().numpy()
            answers.write(READY)
            chosen = torch.from_numpy(_read(pipe, shared)).to(device, torch.int64).unsqueeze(-1)
            nats = torch.logsumexp(logits, -1) - logits.gather(-1, chosen).squeeze(-1)
            answers.write(nats.double().cpu().numpy().tobytes())


def _mlx(model: Any, device: str, pipe: BinaryIO, answers: Any, shared: np.ndarray) -> None:
    import mlx.core as mx

    while True:
        logits = model(model.params, mx.array(_read(pipe, shared))).astype(mx.float32)
        shared[:] = np.array(logits)
        answers.write(READY)
        chosen = mx.array(_read(pipe, shared))[..., None]
        nats = mx.logsumexp(logits, -1) - mx.take_along_axis(logits, chosen, -1)[..., 0]
        answers.write(np.array(nats).astype(np.float64).tobytes())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
