"""Who this machine is, and with what software.

Evidence is keyed by device and software: `Context` carries both with a short key each.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_lab import jobs
from autoresearch_lab.engine import INTERPRETERS, Engine
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.sandbox.parent import Limits
from autoresearch_trainer.jobs import Job
from autoresearch_trainer.jobs.base import A, R
from autoresearch_trainer.jobs.machine import DESCRIBE, DescribeAnswer, DescribeArgs

# The code whose change makes old verdicts those of another lab.
JUDGING_PACKAGES = ("sandbox", "verify", "bench", "ab")

# {language of a GPU's kernels: kind of the "device" where the CPU stands in for that GPU}. Evidence made there speaks
# of the kernel and of no device.
STAND_INS = {"triton": "interpreter", "metal": "metal-cpu"}
# Who the device is, for processes that one which knows it starts (see `described`).
DESCRIBED = "KERNEL_LAB_DESCRIBED"


@dataclass(frozen=True)
class Context:
    """Engine, device and software of a piece of evidence. `device["key"]` and `software["key"]` identify them."""

    engine: Engine
    device: dict[str, Any]
    software: dict[str, Any]

    def fields(self) -> dict[str, Any]:
        """As the fields of a ledger record."""
        return {"engine": self.engine.name, "device": self.device, "software": self.software}

    def keys(self) -> dict[str, str]:
        """As criteria for `Ledger.find`: evidence of another engine, device or software does not count."""
        return {
            "engine": self.engine.name,
            "device_key": self.device["key"],
            "software_key": self.software["key"],
        }


@lru_cache(maxsize=8)
def context(engine: Engine, root: Root) -> Context:
    """Ask the engine (in a process of its own) who the device is and which versions it runs, unless a parent did."""
    told = json.loads(os.environ.get(DESCRIBED, "null"))
    if told and told["engine"] == engine.name and not (engine.interpreted or engine.without_gpu):
        versions = {name: value for name, value in told["software"].items() if name not in ("lab", "key")}
        device = {name: value for name, value in told["device"].items() if name != "key"}
        return _context(engine, DescribeAnswer(device=device, software=versions))
    return _context(engine, short_job(engine, DESCRIBE, DescribeArgs(), root))


@contextmanager
def described(here: Context) -> Iterator[None]:
    """Processes that are started in the block take device and versions from here: asking costs each of them some
    seconds. What the lab's own code hashes to each finds out by itself."""
    os.environ[DESCRIBED] = json.dumps({"engine": here.engine.name, "device": here.device, "software": here.software})
    try:
        yield
    finally:
        del os.environ[DESCRIBED]


def context_of_this_process(engine: Engine) -> Context:
    """As `context`, for a process that has the engine's framework loaded anyway."""
    describe = importlib.import_module(f"{engine.package}.probe.describe")
    return _context(engine, describe.run(DescribeArgs(device=engine.device), Path(), lambda message: None))


def _context(engine: Engine, answer: DescribeAnswer) -> Context:
    """What an engine said of device and software, with their keys."""
    device = dict(answer.device)
    if engine.interpreted:
        # A device of its own, so that nothing that it gives is ever found when a GPU's evidence is looked for.
        language = "triton" if engine.name == "cuda" else "metal"
        device |= {"kind": STAND_INS[language], "name": f"{INTERPRETERS[language]} on {device['name']}"}
    device["key"] = device_key(device)
    return Context(engine, device, _versions(engine, answer))


def software(engine: Engine, root: Root) -> dict[str, Any]:
    """The versions that an engine runs, with their key, for what does not depend on a device."""
    return _versions(engine, short_job(engine, DESCRIBE, DescribeArgs(), root))


def _versions(engine: Engine, answer: DescribeAnswer) -> dict[str, Any]:
    versions = {**answer.software, "lab": code_digest(engine.package)}
    return {**versions, "key": json_sha256(versions)[:12]}


def device_key(device: dict[str, Any]) -> str:
    """The short key of a device that an engine described."""
    return f"{device['kind']}-{json_sha256(device)[:12]}"


def short_job(engine: Engine, job: Job[A, R], args: A, root: Root) -> R:
    """A job of a few seconds in a run folder of its own, which goes afterwards."""
    with jobs.running(root.runs / f"{job.name}-{os.getpid()}") as folder:
        answer = engine.run(job, args, run_dir=folder, limits=Limits(seconds=120))
        shutil.rmtree(folder, ignore_errors=True)
    return answer


@lru_cache(maxsize=4)
def code_digest(package: str) -> str:
    """Hash of the code that judges, the engine `package` and what the engines share included: verdicts of an older
    verifier or benchmark are not this one's."""
    lab = Path(__file__).parent
    files = [lab / "statistics.py"]
    files += [path for name in JUDGING_PACKAGES for path in sorted((lab / name).rglob("*.py"))]
    engine = (CHECKOUT / package, CHECKOUT / "autoresearch_trainer", CHECKOUT / "autoresearch_common")
    files += sorted(path for folder in engine for pattern in ("*.py", "*.h") for path in folder.rglob(pattern))
    return json_sha256([[path.relative_to(CHECKOUT).as_posix(), file_sha256(path)] for path in files])[:12]
