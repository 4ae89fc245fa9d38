"""The raw times of a bench and the sums that are compared; kept whole, as compressed JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch_common.reading import parse_json, read_bytes, unzipped
from autoresearch_lab.errors import LabError
from autoresearch_lab.statistics import paired_log_ratio
from autoresearch_trainer.jobs.timing import TIME, TimeAnswer, TimedCall

FORWARD, BACKWARD, BOTH = "forward", "backward", "both"
DIRECTIONS = (FORWARD, BACKWARD, BOTH)
LEAST_CALM = 3
# Places among the arms: the baseline, and the baseline once more.
BASELINE, CONTROL = 0, 1


def whole(directions: Mapping[str, Any]) -> Any:
    """What a record says of a workload's whole call: forward and backward together, or forward where that is all."""
    return directions.get(BOTH) or directions[FORWARD]


@dataclass(frozen=True)
class Process:
    """What one process measured. seed: of the order of its calls. unenforced: what of its confinement this system could
    not enforce. left: names of processes that it left behind, which may have taken time from its calls."""

    answer: TimeAnswer
    seed: int = 0
    unenforced: Sequence[str] = ()
    left: Sequence[str] = ()

    @cached_property
    def times(self) -> np.ndarray:
        """Seconds per call, (round, visit, arm, workload, [forward, backward])."""
        return np.asarray(self.answer.samples, dtype=np.float64) / 1e9

    @property
    def rounds(self) -> int:
        return self.times.shape[0]

    def seconds(self, direction: str) -> np.ndarray:
        """Seconds per call, (round, arm, workload): the mean of the round's two visits, or the one of them that was not
        interrupted where the other was."""
        clean = np.asarray(self.answer.clean, dtype=np.float64)[..., None]
        used = np.where(clean.any(axis=1, keepdims=True), clean, 1.0)
        return _directed((self.times * used).sum(axis=1) / used.sum(axis=1), direction)

    def calm_rounds(self, arms: Sequence[int], workloads: Sequence[int]) -> np.ndarray:
        """Indices of the rounds in which none of these arms was interrupted in both visits to one of these workloads;
        all rounds where fewer than LEAST_CALM are of that kind: where calls are long, interruptions are part of them.
        """
        visited = np.asarray(self.answer.clean, dtype=bool).max(axis=1)  # (round, arm, workload)
        clean = visited[:, arms][:, :, workloads].all(axis=(1, 2))
        calm = np.flatnonzero(clean)
        return calm if len(calm) >= LEAST_CALM else np.arange(self.rounds)

    def totals(self, direction: str, weights: Sequence[float]) -> np.ndarray:
        """Seconds per optimizer step, (round, arm): every workload as often as a step calls it."""
        return self.seconds(direction) @ np.asarray(weights, dtype=np.float64)

    def visits(self) -> Iterator[tuple[int, int, int, float]]:
        """(arm, arm that ran just before, workload, seconds) of every sample that had a neighbour before it."""
        both = _directed(self.times, BOTH)
        for number, visited in enumerate(self.answer.orders):
            for workload, order in visited:
                sequence = [*order, *reversed(order)]
                for place in range(1, len(sequence)):
                    arm, visit = sequence[place], place // len(order)
                    yield arm, sequence[place - 1], workload, float(both[number, visit, arm, workload])


def _directed(times: np.ndarray, direction: str) -> np.ndarray:
    if direction == BOTH:
        return times.sum(axis=-1)
    return times[..., 0 if direction == FORWARD else 1]


def total_ratios(
    processes: Sequence[Process], top: int, bottom: int, direction: str, weights: Sequence[float]
) -> list[np.ndarray]:
    """Per process, log(time of arm `top` / time of arm `bottom`) over all workloads together; see `log_ratios`."""
    found = []
    for process in processes:
        rounds = process.calm_rounds([*_tops(top, bottom), bottom], list(range(len(weights))))
        found.append(log_ratios(process.totals(direction, weights)[rounds], top, bottom))
    return found


def workload_ratios(
    processes: Sequence[Process], top: int, bottom: int, direction: str, workload: int
) -> list[np.ndarray]:
    """The same for one workload."""
    found = []
    for process in processes:
        rounds = process.calm_rounds([*_tops(top, bottom), bottom], [workload])
        found.append(log_ratios(process.seconds(direction)[rounds][:, :, workload], top, bottom))
    return found


def _tops(top: int, bottom: int) -> list[int]:
    return [BASELINE, CONTROL] if top == BASELINE and bottom != CONTROL else [top]


def log_ratios(seconds: np.ndarray, top: int, bottom: int) -> np.ndarray:
    """log(time of arm `top` / time of arm `bottom`) of (round, arm), round after round.

    Where `top` is the baseline there are two of every round, one against each of its arms, the second of which is the
    control: their own noise and their levels in a process weigh half as much in the median then. (In the mean of both
    arms a disturbance of one would be twice as frequent as in the candidate, and favour it.)
    """
    tops = _tops(top, bottom)
    return np.stack([paired_log_ratio(seconds[:, each], seconds[:, bottom]) for each in tops], axis=1).ravel()


def save(path: Path, arms: list[dict[str, str]], workloads: Sequence[TimedCall], processes: Sequence[Process]) -> None:
    """Write everything that was measured; reads back with `gzip` and `json` alone. Times are in ns per call."""
    raw = [{**one.answer.model_dump(), "seed": one.seed, "unenforced": list(one.unenforced)} for one in processes]
    content = {"schema": 1, "arms": arms, "workloads": workloads, "processes": raw}
    # Neither file name nor time inside, so that equal samples give equal bytes.
    data = gzip.compress(json.dumps(content, separators=(",", ":")).encode(), compresslevel=6, mtime=0)
    path.write_bytes(data)


def load(path: Path) -> tuple[list[dict[str, str]], list[TimedCall], list[Process]]:
    """(arms, workloads, processes) of a file that `save` wrote.

    Raises:
        LabError: it cannot be read, or is something else.
    """
    try:
        content = parse_json(unzipped(read_bytes(path), path), path)
        processes = []
        for raw in content["processes"]:
            seed, unenforced = raw.pop("seed"), raw.pop("unenforced", [])
            processes.append(Process(TIME.read(raw), seed, unenforced))
        return content["arms"], content["workloads"], processes
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{path} is not a file of samples: {str(error).splitlines()[0]}") from None
