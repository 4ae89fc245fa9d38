"""Gather everything that the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import reduce
from itertools import islice
from operator import or_
from typing import Any

from autoresearch_lab import lookup
from autoresearch_lab.ab.outcome import over
from autoresearch_lab.evidence import judged_kernels
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT
from autoresearch_lab.report import sources
from autoresearch_lab.report.integrity import inspect
from autoresearch_lab.report.sources import Sources
from autoresearch_lab.report.views import PromotionRow, ReportView, Source, SpeedRow, speed_rows
from autoresearch_lab.results.base import Dataset, Facts
from autoresearch_lab.results.record import (
    CLASSES,
    AbRecord,
    BenchRecord,
    CampaignRecord,
    DemoteRecord,
    NoteRecord,
    ProfileRecord,
    PromoteRecord,
    Record,
    VerifyRecord,
)

TITLE = "Kernel lab report"
MOST_ABS = 8
MOST_ROWS = 250
NO_NOTE: Any = reduce(or_, (made for made in CLASSES.values() if not issubclass(made, NoteRecord)))


def collect(lab: Lab, context: Context | None, remarks: Sequence[str] = ()) -> ReportView:
    """Read shipped evidence and catalogue, and of the ledger what is shown, and put them into the page's terms.

    Raises:
        LabError: the ledger, or the list of promoted kernels, cannot be read.
    """
    found = sources.read(lab, context)
    state = inspect(lab)
    listed = [*islice(lookup.everything(lab.ledger, newest_first=True, of=NO_NOTE), MOST_ROWS)]
    device = context.device if context else _newest_field(listed, "device")
    software = context.software if context else _newest_field(listed, "software")
    campaign = next(iter(found.all(CampaignRecord, 1)), None)
    newest = lookup.newest_id(lab.ledger)
    last = lookup.by_id(lab.ledger, newest) if newest else None
    hidden = sum(state.counts.values()) - state.counts.get("note", 0) - MOST_ROWS
    return ReportView(
        title=TITLE,
        generated=datetime.now(UTC).isoformat(timespec="seconds"),
        root=str(lab.root.path if lab.root.path != CHECKOUT else CHECKOUT.name),
        machine=describe_device(device),
        software={name: str(value) for name, value in software.items() if value and name != "key"},
        commit=last.commit if last else None,
        dataset=_dataset(listed),
        device_key=str(device.get("key") or ""),
        story=story(found.abs() or found.all(AbRecord, 1), found.promoted_contents),
        # The newest that counts here, else the newest.
        profile=found.counting(ProfileRecord) or next(iter(found.all(ProfileRecord, 1)), None),
        speeds=tuple(_speeds(found)),
        verifications=tuple(
            sorted(found.newest(VerifyRecord), key=lambda source: (source.record.target, source.record.kernel.name))
        ),
        abs=tuple(found.all(AbRecord, MOST_ABS)),
        promotions=tuple(_promotions(found)),
        evidence=(
            *(found.source(record) for record in listed[:MOST_ROWS]),
            *(found.source(record, True) for record in reversed(found.shipped) if record.kind != "note"),
        ),
        counts=state.counts,
        problems=tuple(state.problems),
        campaign=campaign.record if campaign else None,
        remarks=tuple(
            # What cannot be read is met twice: when it is shown, and when it is checked.
            dict.fromkeys(
                [
                    *remarks,
                    *found.remarks,
                    *state.remarks,
                    *([f"{hidden} older records are not listed"] if hidden > 0 else []),
                ]
            )
        ),
    )


def story(abs_: list[Source[AbRecord]], promoted: dict[str, str]) -> Source[AbRecord] | None:
    """The A/B that says most about the trainer as it is now; `abs_` newest first, `promoted`: target -> content hash.

    The newest that counts here and compares everything promoted with the bare baseline; else the newest that promotes;
    else the newest. Those with each arm in its fastest mode come before those with a mode that was asked for.
    """
    counting = [source for source in abs_ if source.counts] or abs_
    counting = sorted(counting, key=lambda source: source.record.settings.compile != "auto")
    whole = [s for s in counting if promoted and contents(s.record) == promoted and not over(s.record)]
    won = [source for source in counting if source.record.verdict == "PROMOTE"]
    return next(iter(whole or won or counting), None)


def contents(record: Record) -> dict[str, str]:
    """Target -> content hash of the kernels that a record judges."""
    return {target: kernel.sha256 for target, kernel in judged_kernels(record).items()}


def describe_device(device: Facts) -> dict[str, str]:
    """Name, cores and instruction sets, as far as the device says."""
    facts = {"name": device.get("name"), "kind": device.get("kind")}
    cores = device.get("cores")
    if isinstance(cores, dict):
        facts["cores"] = ", ".join(f"{count} {kind}" for kind, count in cores.items() if count)
    for name in ("memory_gb", "capability", "multiprocessors", "driver"):
        facts[name.replace("_", " ")] = device.get(name)
    if isinstance(device.get("isa"), list):
        facts["instructions"] = " ".join(map(str, device["isa"]))
    facts["system"] = " ".join(str(device[name]) for name in ("os", "arch") if device.get(name))
    return {name: str(value) for name, value in facts.items() if value}


def _newest_field(rows: list[Record], name: str) -> Facts:
    return next((value for record in rows if (value := getattr(record, name))), {})


def _dataset(rows: list[Record]) -> str:
    """Name and fingerprint of the data that the newest of these records with one was measured on."""
    for record in rows:
        for part in (record.results, record.settings):
            held = getattr(part, "dataset", None)
            if isinstance(held, Dataset) and held.name:
                return held.name + (f", fingerprint {held.fingerprint[:16]}" if held.fingerprint else "")
    return ""


def _speeds(found: Sources) -> list[SpeedRow]:
    """Every benchmarked candidate once; a library kernel once per target, from the newest bench that timed it."""
    groups = [rows for source in found.newest(BenchRecord) if (rows := speed_rows(source))]
    best: dict[str, float] = {}  # target -> its fastest kernel, so that the page begins with what gains most
    for first, *_ in groups:
        best[first.target] = max(best.get(first.target, 0.0), first.ratio.value)
    groups.sort(key=lambda rows: (-best[rows[0].target], rows[0].target, -rows[0].ratio.value))
    speeds, libraries = [], set()
    for row in (row for rows in groups for row in rows):
        if row.arm == "library":
            if (row.target, row.kernel) in libraries:
                continue
            libraries.add((row.target, row.kernel))
        speeds.append(row)
    return speeds


def _promotions(found: Sources) -> list[PromotionRow]:
    """Newest first; those that ship with the project at the end."""
    rows = []
    promotions = lookup.everything(found.lab.ledger, newest_first=True, of=PromoteRecord | DemoteRecord)
    for record in islice(promotions, MOST_ROWS):
        used = found.promoted_contents.get(record.target or "")
        here = found.context is None or record.device_key == found.context.device["key"]
        in_force = here and record.kind == "promote" and record.kernel is not None and record.kernel.sha256 == used
        rows.append(PromotionRow(found.source(record), in_force))
    shipped = [record for record in reversed(found.shipped) if record.kind in ("promote", "demote")]
    return rows + [PromotionRow(found.source(record, True)) for record in shipped]
