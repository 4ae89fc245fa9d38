"""Who this machine is, with what software, and what it can do at most.

Evidence is keyed by device and software: `Context` carries both with a short key each. Ceilings are measured, never
looked up in a table; what was not measured is unknown.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_lab.engine import INTERPRETERS, Engine
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.records import Record
from autoresearch_lab.sandbox.parent import Limits

# The code whose change makes old verdicts those of another lab.
JUDGING_PACKAGES = ("sandbox", "verify", "bench", "ab")


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
    """Ask the engine (in a process of its own) who the device is and which versions it runs."""
    device, software = _describe(engine, root)
    if engine.interpreted:
        # A device of its own, so that nothing that it gives is ever found when a GPU's evidence is looked for.
        kind, language = ("interpreter", "triton") if engine.name == "cuda" else ("metal-cpu", "metal")
        device |= {"kind": kind, "name": f"{INTERPRETERS[language]} on {device['name']}"}
    device["key"] = device_key(device)
    return Context(engine, device, software)


def software(engine: Engine, root: Root) -> dict[str, Any]:
    """The versions that an engine runs, with their key, for what does not depend on a device."""
    return _describe(engine, root)[1]


def _describe(engine: Engine, root: Root) -> tuple[dict[str, Any], dict[str, Any]]:
    answer = _run_short_job(engine, "describe", root)
    versions = {**answer["software"], "lab": code_digest(engine.package)}
    return dict(answer["device"]), {**versions, "key": json_sha256(versions)[:12]}


def device_key(device: dict[str, Any]) -> str:
    """The short key of a device that an engine described."""
    return f"{device['kind']}-{json_sha256(device)[:12]}"


def known_peak(ledger: Ledger, engine: str, device: str, dtype: str) -> dict[str, Any] | None:
    """The highest matrix-product rate that was ever measured on the device with that key, with any software: {"flops"
    in FLOP/s, "dtype", "record": ledger id}; None where nothing was. Measures nothing.
    """
    best = None
    for record in ledger.find(kind="note", engine=engine, device_key=device):
        if (record.settings or {}).get("event") != "ceilings":
            continue
        rate = (record.results or {}).get("matmul_gflop_s", {}).get(dtype)
        if rate and (best is None or rate * 1e9 > best["flops"]):
            best = {"flops": rate * 1e9, "dtype": dtype, "record": record.id}
    return best


def _run_short_job(engine: Engine, job: str, root: Root) -> dict[str, Any]:
    """A job of a few seconds in a run folder of its own, which goes afterwards."""
    folder = root.runs / f"{job}-{os.getpid()}"
    answer = engine.run(job, {}, run_dir=folder, limits=Limits(seconds=120))
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


def ceilings(context: Context, root: Root, ledger: Ledger, *, fresh: bool = False) -> dict[str, Any]:
    """What this machine can do at most, as measured by the engine's `ceilings` job; kept in the ledger as notes.

    The best of all measurements so far: a busy moment makes one too low, nothing makes one too high. `fresh` adds one.

    Returns:
        {"copy_gb_s": [[bytes, GB/s], ...] for rising sizes of the working set, "matmul_gflop_s": {dtype: GFLOP/s},
        "record": ledger id of the newest measurement, "measurements": how many there are}.
    """
    known = ceilings_notes(context, ledger)
    if fresh or not known:
        measured = _run_short_job(context.engine, "ceilings", root)
        known.append(ledger.append("note", **context.fields(), settings={"event": "ceilings"}, results=measured))
    return {**_best(record.results or {} for record in known), "record": known[-1].id, "measurements": len(known)}


def ceilings_notes(context: Context, ledger: Ledger) -> list[Record]:
    """The measurements of ceilings that the ledger holds of this device with this software, oldest first."""
    notes = ledger.find(kind="note", **context.keys())
    return [record for record in notes if (record.settings or {}).get("event") == "ceilings"]


def _best(measurements: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The highest rate per size and per dtype."""
    copy: dict[int, float] = {}
    products: dict[str, float] = {}
    for measured in measurements:
        for size, rate in measured.get("copy_gb_s", []):
            copy[size] = max(rate, copy.get(size, 0.0))
        for dtype, rate in measured.get("matmul_gflop_s", {}).items():
            products[dtype] = max(rate, products.get(dtype, 0.0))
    return {"copy_gb_s": [[size, copy[size]] for size in sorted(copy)], "matmul_gflop_s": products}


def bandwidth(ceilings: dict[str, Any], working_set_bytes: int) -> float | None:
    """Highest measured copy rate in bytes/s for a working set of at least that size; None = unknown.

    A smaller set may stay in a cache, so the rate allowed is the best one seen at this size or a larger one.
    """
    rates = [rate for size, rate in ceilings.get("copy_gb_s", []) if size >= working_set_bytes]
    if not rates and ceilings.get("copy_gb_s"):
        rates = [ceilings["copy_gb_s"][-1][1]]
    return max(rates) * 1e9 if rates else None


def matmul_rate(ceilings: dict[str, Any], dtype: str) -> float | None:
    """Measured matrix-product rate in FLOP/s for a dtype; None = unknown."""
    rate = ceilings.get("matmul_gflop_s", {}).get(dtype)
    return rate * 1e9 if rate else None


def floor_seconds(ceilings: dict[str, Any], flops: int, moved_bytes: int, dtype: str) -> float | None:
    """Least time for the work on this machine: max(FLOP / best rate, bytes / best bandwidth); None = unknown."""
    speed, rate = bandwidth(ceilings, moved_bytes), matmul_rate(ceilings, dtype)
    if speed is None or (flops and rate is None):
        return None
    return max(moved_bytes / speed, flops / rate if rate else 0.0)
