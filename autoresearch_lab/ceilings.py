"""What this machine can do at most: measured, never looked up in a table. What was not measured is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import short_job
from autoresearch_lab.records import Record
from autoresearch_trainer.record import CeilingRecord


def ceilings(lab: Lab, *, fresh: bool = False) -> dict[str, Any]:
    """What this machine can do at most, as measured by the engine's `ceilings` job; kept in the ledger as notes.

    The best of all measurements so far: a busy moment makes one too low, nothing makes one too high. `fresh` adds one.

    Returns:
        {"copy_gb_s": [[bytes, GB/s], ...] for rising sizes of the working set, "matmul_gflop_s": {dtype: GFLOP/s},
        "record": ledger id of the newest measurement, "measurements": how many there are}.
    """
    known = ceilings_notes(lab)
    if fresh or not known:
        measured = short_job(lab.context.engine, "ceilings", lab.root)
        known.append(
            lab.ledger.append("note", **lab.context.fields(), settings={"event": "ceilings"}, results=measured)
        )
    return {**_best(record.results or {} for record in known), "record": known[-1].id, "measurements": len(known)}


def ceilings_notes(lab: Lab) -> list[Record]:
    """The measurements of ceilings that the ledger holds of this device with this software, oldest first."""
    notes = lab.ledger.find(kind="note", **lab.context.keys())
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


def known_peak(ledger: Ledger, engine: str, device: str, dtype: str) -> CeilingRecord | None:
    """The highest matrix-product rate that was ever measured on the device with that key, with any software: {"flops"
    in FLOP/s, "dtype", "record": ledger id}; None where nothing was. Measures nothing.
    """
    best: CeilingRecord | None = None
    for record in ledger.find(kind="note", engine=engine, device_key=device):
        if (record.settings or {}).get("event") != "ceilings":
            continue
        rate = (record.results or {}).get("matmul_gflop_s", {}).get(dtype)
        if rate and (best is None or rate * 1e9 > best["flops"]):
            best = {"flops": rate * 1e9, "dtype": dtype, "record": record.id}
    return best
