"""What this machine can do at most: measured, never looked up in a table. What was not measured is unknown."""

from __future__ import annotations

from collections.abc import Iterable

from autoresearch_lab.evidence import newest_here, newest_on_device
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import short_job
from autoresearch_lab.results.base import Ceilings
from autoresearch_lab.results.note import CeilingsSettings
from autoresearch_lab.results.record import CeilingsRecord
from autoresearch_trainer.jobs.machine import CEILINGS, CeilingsArgs
from autoresearch_trainer.record import CeilingRecord


def ceilings(lab: Lab, *, fresh: bool = False) -> Ceilings:
    """What this machine can do at most, as measured by the engine's `ceilings` job; kept in the ledger as notes.

    The best of all measurements so far: a busy moment makes one too low, nothing makes one too high. `fresh` adds one.
    """
    known = ceilings_notes(lab)
    if fresh or not known:
        measured = short_job(lab.context.engine, CEILINGS, CeilingsArgs(), lab.root)
        known.append(
            lab.ledger.append(
                CeilingsRecord,
                **lab.context.fields(),
                settings=CeilingsSettings(event="ceilings"),
                results=Ceilings(**measured.model_dump()),
            )
        )
    best = highest(record.results for record in known)
    return best.model_copy(update={"record": known[-1].id, "measurements": len(known)})


def ceilings_notes(lab: Lab) -> list[CeilingsRecord]:
    """The measurements of ceilings that the ledger holds of this device with this software, oldest first."""
    return list(reversed(list(newest_here(lab, CeilingsRecord))))


def highest(measurements: Iterable[Ceilings]) -> Ceilings:
    """Several measurements as one: the highest rate per size and per dtype, since other work only takes speed away."""
    copy: dict[float, float] = {}
    products: dict[str, float] = {}
    for measured in measurements:
        for size, rate in measured.copy_gb_s:
            copy[size] = max(rate, copy.get(size, 0.0))
        for dtype, rate in measured.matmul_gflop_s.items():
            products[dtype] = max(rate, products.get(dtype, 0.0))
    return Ceilings(copy_gb_s=[(size, copy[size]) for size in sorted(copy)], matmul_gflop_s=products)


def bandwidth(ceilings: Ceilings, working_set_bytes: float) -> float | None:
    """Highest measured copy rate in bytes/s for a working set of at least that size; None = unknown.

    A smaller set may stay in a cache, so the rate allowed is the best one seen at this size or a larger one.
    """
    rates = [rate for size, rate in ceilings.copy_gb_s if size >= working_set_bytes]
    if not rates and ceilings.copy_gb_s:
        rates = [ceilings.copy_gb_s[-1][1]]
    return max(rates) * 1e9 if rates else None


def matmul_rate(ceilings: Ceilings, dtype: str) -> float | None:
    """Measured matrix-product rate in FLOP/s for a dtype; None = unknown."""
    rate = ceilings.matmul_gflop_s.get(dtype)
    return rate * 1e9 if rate else None


def floor_seconds(ceilings: Ceilings, flops: float, moved_bytes: float, dtype: str | None = None) -> float | None:
    """Least time for the work on this machine: max(FLOP / best rate, bytes / best bandwidth); None = unknown.

    Without a dtype this is a floor for refusing results, more generous than an estimate: the arithmetic may use the
    fastest type there is, and the bandwidth is that of a working set of a quarter of the size, since part of it may
    stay in a cache.
    """
    speed = bandwidth(ceilings, moved_bytes if dtype else moved_bytes // 4)
    dtypes = [dtype] if dtype else list(ceilings.matmul_gflop_s)
    rate = max((rate for rate in (matmul_rate(ceilings, one) for one in dtypes) if rate), default=None)
    if speed is None or (flops and rate is None):
        return None
    return max(moved_bytes / speed, flops / rate if rate else 0.0)


def known_peak(ledger: Ledger, engine: str, device: str, dtype: str) -> CeilingRecord | None:
    """The highest matrix-product rate that was ever measured on the device with that key, with any software: {"flops"
    in FLOP/s, "dtype", "record": ledger id}; None where nothing was. Measures nothing.
    """
    rates = [
        (rate, record.id)
        for record in newest_on_device(ledger, CeilingsRecord, engine, device)
        if (rate := matmul_rate(record.results, dtype))
    ]
    if not rates:
        return None
    flops, record = max(rates)
    return {"flops": flops, "dtype": dtype, "record": record}
