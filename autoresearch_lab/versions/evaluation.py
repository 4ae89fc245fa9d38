"""val_bpb of a side's weights, computed here: rows, bytes and sums are the lab's, the logits are the side's."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from autoresearch_data.dataset import open_dataset
from autoresearch_lab.sandbox.command import last_line
from autoresearch_lab.sandbox.parent import end_all
from autoresearch_lab.sandbox.supervisor import below
from autoresearch_lab.versions import logits as script
from autoresearch_lab.versions.process import side_environment
from autoresearch_lab.versions.sides import Side
from autoresearch_trainer.config import Preset
from autoresearch_trainer.evaluate import evaluate_bpb
from autoresearch_trainer.rungs import full_tokens, limited

BATCH_TOKENS = 4096  # of one exchange; its logits are some 128 MB
LIMIT_SECONDS = 3600.0
# Losses that are not those of the logits, and logits that follow tokens to come: more than rounding makes.
LOSS_TOLERANCE, LOOKAHEAD_TOLERANCE, CHECKED_PLACES = 1e-3, 0.1, 64


class NotEvaluated(Exception):
    """The side's model gives no losses that the lab can count. cheats: it is no accident."""

    def __init__(self, why: str, *, cheats: bool = False) -> None:
        super().__init__(why)
        self.cheats = cheats


@dataclass(frozen=True)
class Evaluated:
    """seconds: of the whole; token_seconds: of one token, the first batch left out."""

    val_bpb: float
    seconds: float
    token_seconds: float


def evaluate(side: Side, weights: Path, base: Preset, tokens: int | None, engine: tuple[str, str]) -> Evaluated:
    """Bits per byte on `tokens` tokens spread over the validation split (None: the preset's), of weights that the side
    trained with preset `base`. engine: its package and its device.

    Raises:
        NotEvaluated: the side's model cannot be asked, or its answers are not what they should be.
    """
    started = time.monotonic()
    length, batch = base.model.sequence_len, base.evaluated_batch
    dataset = open_dataset(side.dataset)
    over = full_tokens(dataset, length, batch * length)
    count = limited(tokens or base.eval_tokens, over, batch * length)
    most = max(1, BATCH_TOKENS // length)
    rows = max(rows for rows in range(1, min(batch, most) + 1) if batch % rows == 0)
    with _served(side, weights, rows, base, engine) as losses:
        with np.errstate(invalid="ignore", over="ignore"):
            found = evaluate_bpb(losses, dataset, batch, length, count, spread_over=over)
        losses.check_lookahead()
    return Evaluated(found.val_bpb, time.monotonic() - started, losses.token_seconds)


@contextmanager
def _served(side: Side, weights: Path, rows: int, base: Preset, engine: tuple[str, str]) -> Iterator[_Losses]:
    length, file = base.model.sequence_len, weights.with_name("logits.bin")
    command = [sys.executable, "-P", script.__file__, *engine, str(weights), str(rows), str(length), str(file)]
    log = weights.with_name("evaluation.log")
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            below(command),
            cwd=weights.parent,
            env=side_environment(side.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    watchdog = threading.Timer(LIMIT_SECONDS, process.terminate)
    watchdog.start()
    try:
        told = cast(IO[bytes], process.stdout).readline()
        if not told.endswith(b"}\n"):
            raise EOFError
        about, wanted = json.loads(told), {"sequence_len": length, "vocab_size": base.model.vocab_size}
        if about != wanted:
            raise NotEvaluated(f"it evaluates another model, {about}, than the preset's {wanted}", cheats=True)
        yield _Losses(process, np.memmap(file, np.float32, "r", shape=(rows, length, base.model.vocab_size)))
    except (EOFError, BrokenPipeError, json.JSONDecodeError):
        end_all(process)  # its last words have to be there
        raise NotEvaluated(f"its model gives no losses: {last_line(log) or 'no answer'}") from None
    finally:
        watchdog.cancel()
        end_all(process)
        file.unlink(missing_ok=True)


class _Losses:
    """Losses of a batch by the side's model, in exchanges of as many rows as `logits` has."""

    def __init__(self, process: subprocess.Popen, logits: np.ndarray) -> None:
        self._to, self._from = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        self._logits = logits
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._ended: list[float] = []

    def __call__(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        rows = len(self._logits)
        pairs = [(inputs[at : at + rows], targets[at : at + rows]) for at in range(0, len(inputs), rows)]
        return np.concatenate([self._exchange(*pair) for pair in pairs])

    def _exchange(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        self._send(inputs)
        if self._from.read(1) != script.READY:
            raise EOFError
        self._send(targets)
        raw = self._from.read(8 * targets.size)
        if len(raw) != 8 * targets.size:
            raise EOFError
        nats = np.frombuffer(raw, np.float64).reshape(targets.shape)
        self._check(nats, targets)
        self._last = inputs, targets
        self._ended.append(time.monotonic())
        return nats

    @property
    def token_seconds(self) -> float:
        """Of a token, without the first exchange, in which the side's model warms up."""
        ended = self._ended
        return (ended[-1] - ended[0]) / (len(ended) - 1) / self._logits[..., 0].size if len(ended) > 1 else 0.0

    def _send(self, ids: np.ndarray) -> None:
        self._to.write(np.ascontiguousarray(ids, np.int32).tobytes())
        self._to.flush()

    def _check(self, nats: np.ndarray, targets: np.ndarray) -> None:
        """Losses at random places from the logits that were there before the targets were."""
        places = [divmod(random.randrange(targets.size), targets.shape[1]) for _ in range(CHECKED_PLACES)]
        row, column = np.array(places).T
        logits = self._logits[row, column].astype(np.float64)
        top = logits.max(-1, keepdims=True)
        ours = np.log(np.exp(logits - top).sum(-1)) + top[:, 0] - logits[np.arange(len(row)), targets[row, column]]
        wrong = np.abs(nats[row, column] - ours) > LOSS_TOLERANCE * (1 + np.abs(ours))
        if wrong.any():
            raise NotEvaluated("its losses are not those of its logits", cheats=True)

    def check_lookahead(self) -> None:
        """Whether the last batch's logits in the first half of each row stay, when the second half is another.

        Raises:
            NotEvaluated: they do not: the model looks at what it is to predict.
        """
        if self._last is None:
            return
        inputs, targets = self._last
        half = inputs.shape[1] // 2
        before = np.array(self._logits[:, :half])
        changed = inputs.copy()
        changed[:, half:] = np.roll(inputs[:, half:], 1, axis=1)
        self._exchange(changed, targets)
        if np.nanmax(np.abs(self._logits[:, :half] - before), initial=0.0) > LOOKAHEAD_TOLERANCE:
            raise NotEvaluated("its model looks at tokens that it is to predict", cheats=True)
