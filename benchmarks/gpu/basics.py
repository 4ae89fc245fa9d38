"""Parts `data`, `tests` and `profile`: what the others rest on."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from autoresearch_lab.lab import Lab
from autoresearch_lab.profile.run import newest_workloads
from benchmarks.gpu.command import PartFailed, run, verb
from benchmarks.gpu.setting import Setting


def data(setting: Setting, seconds: float) -> dict[str, Any]:
    """The dataset that is trained on: the one that is there, else prepared from the sources of Python's own library."""
    folder = setting.root.data(setting.dataset)
    if (folder / "dataset.json").is_file():
        return {"folder": str(folder), "prepared": False}
    if setting.dataset != "stdlib":
        raise PartFailed(f"no dataset {setting.dataset} at {folder}")
    missing = [name for name in ("rustbpe", "pyarrow") if importlib.util.find_spec(name) is None]
    if missing:
        raise PartFailed(f"no dataset at {folder}, and without {' and '.join(missing)} none can be prepared")
    done = run(setting, ["prepare.py", "--corpus", "stdlib", "--data-dir", str(folder.parent)], seconds)
    if done.code != 0:
        raise PartFailed(done.reason)
    return {"folder": str(folder), "prepared": True}


def tests(setting: Setting, seconds: float) -> dict[str, Any]:
    """The tests that need a GPU: {"passed", "failed", "skipped", "error", "lines": of what failed, "unfinished":
    whether time was over too soon}."""
    if importlib.util.find_spec("pytest") is None:
        raise PartFailed("pytest is not installed")
    done = run(
        setting, ["-m", "pytest", "tests/gpu", "-p", "no:cacheprovider", "-o", "addopts=", "-v", "-rfE"], seconds
    )
    outcomes = re.findall(r"^\S+::.* (PASSED|FAILED|SKIPPED|ERROR)\b", done.out, re.MULTILINE)
    if not outcomes:
        raise PartFailed(done.reason)
    counts = {word: outcomes.count(word.upper()) for word in ("passed", "failed", "skipped", "error")}
    lines = re.findall(r"^(?:FAILED|ERROR) \S.*", done.out, re.MULTILINE)
    return {**counts, "lines": lines, "unfinished": done.code is None}


def profile(setting: Setting, seconds: float) -> dict[str, Any]:
    """The lab's own profile of the trainer: where a step's time goes, the captured calls, the measured ceilings.

    What an earlier call took is not taken again: the captured calls stay those that kernels were verified on."""
    found = _known_profile(setting)
    if found is None:
        setting.work.mkdir(parents=True, exist_ok=True)
        output = setting.work / "profile.json"
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


def _known_profile(setting: Setting) -> dict[str, Any] | None:
    """The newest profile of this preset here, with the lab as it is and its captured calls at hand."""
    context, ledger = setting.context, setting.ledger
    if context is None or not setting.root.ledger.exists():
        return None
    record = ledger.latest(kind="profile", device_key=context.device["key"], software_key=context.software["key"])
    given = (record.settings or {}) if record else {}
    if given.get("preset") != setting.preset or (given.get("dataset") or {}).get("name") != setting.dataset:
        return None
    kept = {name: newest_workloads(name, Lab.of(context, setting.root, ledger)) for name in record.workloads or {}}
    if any(found is None or found.sha256 != record.workloads[name]["sha256"] for name, found in kept.items()):
        return None
    return {**(record.results or {}), "id": record.id}
