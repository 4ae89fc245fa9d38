"""Parts `data`, `tests` and `profile`: what the others rest on."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from benchmarks.gpu.command import PartFailed, run, verb
from benchmarks.gpu.setting import Setting


def data(setting: Setting, seconds: float) -> dict[str, Any]:
    """The dataset that is trained on: the one that is there, else prepared from the sources of Python's own library."""
    folder = setting.root.data(setting.dataset)
    if (folder / "dataset.json").is_file():
        return {"folder": str(folder), "prepared": False}
    if setting.dataset != "stdlib":
        raise PartFailed(f"no dataset {setting.dataset} at {folder}")
    if importlib.util.find_spec("rustbpe") is None:
        raise PartFailed(f"no dataset at {folder}, and without rustbpe none can be prepared")
    done = run(setting, ["prepare.py", "--corpus", "stdlib", "--data-dir", str(folder.parent)], seconds)
    if done.code != 0:
        raise PartFailed(done.reason)
    return {"folder": str(folder), "prepared": True}


def tests(setting: Setting, seconds: float) -> dict[str, Any]:
    """The tests that need a GPU: {"passed", "failed", "skipped", "lines": of the failures}."""
    if importlib.util.find_spec("pytest") is None:
        raise PartFailed("pytest is not installed")
    done = run(setting, ["-m", "pytest", "tests/gpu", "-p", "no:cacheprovider", "-o", "addopts=", "-q", "-rf"], seconds)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.out)}
    if done.code is None or not counts:
        raise PartFailed(done.reason)
    lines = [line for line in done.out.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {"passed": 0, "failed": 0, "skipped": 0, **counts, "lines": lines}


def profile(setting: Setting, seconds: float) -> dict[str, Any]:
    """The lab's own profile of the trainer: where a step's time goes, the captured calls, the measured ceilings."""
    output = setting.out / "profile.json"
    options = ["--preset", setting.preset, "--steps", "4", "--output", str(output), "--dataset", setting.dataset]
    done = verb(setting, "profile", *options, seconds=seconds)
    if done.code != 0:
        raise PartFailed(done.reason)
    found = done.json()
    rows = [{key: row[key] for key in ("target", "share", "total_ms", "floor_ms", "rank")} for row in found["targets"]]
    shown = {"step_ms": found["step_ms"], "sum_deviation": found["sum_deviation"], "ceilings": found["ceilings"]}
    if setting.rehearse:
        return {"targets": [row["target"] for row in rows]}
    return {**shown, "tokens_per_second": found["tokens_per_second"], "targets": rows, "record": found["id"]}
