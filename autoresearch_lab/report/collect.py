"""Gather everything that the page shows."""

from __future__ import annotations

from datetime import UTC, datetime

from autoresearch_lab.campaign.record import newest_campaign
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.report import sources
from autoresearch_lab.report.brief import brief
from autoresearch_lab.report.integrity import inspect
from autoresearch_lab.report.readers import ab, bench, profile, promotion, verify
from autoresearch_lab.report.readers.dig import dig, results, settings
from autoresearch_lab.report.sources import Sources
from autoresearch_lab.report.staleness import subjects
from autoresearch_lab.report.views import AB, Event, Evidence, Profile, Report, Speed
from autoresearch_lab.results.record import Record

TITLE = "Kernel lab report"
MOST_ABS = 8
MOST_ROWS = 250


def collect(root: Root, ledger: Ledger, context: Context | None, remarks: list[str]) -> Report:
    """Read ledger, shipped evidence and catalogue once and put them into the page's terms.

    Raises:
        LabError: the ledger, or the list of promoted kernels, cannot be read.
    """
    found = sources.read(root, ledger, context)
    state = inspect(root, ledger)
    rows = [*reversed(found.records)]
    shown = [record for record in rows if record.kind != "note"][:MOST_ROWS]
    device = context.device if context else _newest_field(rows, "device")
    software = context.software if context else _newest_field(rows, "software")
    all_abs = [ab.read(record, found.source(record)) for record in rows if record.kind == "ab"]
    hidden = sum(record.kind != "note" for record in rows) - len(shown)
    return Report(
        title=TITLE,
        generated=datetime.now(UTC).isoformat(timespec="seconds"),
        root=str(root.path if root.path != CHECKOUT else CHECKOUT.name),
        machine=describe_device(device),
        software={name: str(value) for name, value in software.items() if value and name != "key"},
        commit=rows[0].commit if rows else None,
        dataset=_dataset(rows),
        device_key=str(device.get("key") or ""),
        story=story(all_abs, contents(found)),
        profile=_profile(found),
        speeds=tuple(_speeds(found)),
        verifications=tuple(
            sorted(
                (verify.read(record, found.source(record)) for record in found.newest("verify")),
                key=lambda row: (row.target, row.kernel),
            )
        ),
        abs=tuple(all_abs[:MOST_ABS]),
        events=tuple(_events(found)),
        evidence=tuple(_evidence(found, shown)),
        counts=state.counts,
        problems=tuple(state.problems),
        campaign=newest_campaign(rows),
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


def story(abs_: list[AB], promoted: dict[str, str]) -> AB | None:
    """The A/B that says most about the trainer as it is now; `abs_` newest first, `promoted`: target -> content hash.

    The newest that counts here and compares everything promoted with the bare baseline; else the newest that promotes;
    else the newest.
    """
    counting = [found for found in abs_ if found.source.counts] or abs_
    whole = [found for found in counting if promoted and found.contents == promoted and not found.over]
    won = [found for found in counting if found.verdict == "PROMOTE"]
    return next(iter(whole or won or counting), None)


def contents(found: Sources) -> dict[str, str]:
    """Target -> content hash of the promoted kernels that the trainer uses here."""
    return {target: kernel.sha256 for target, kernel in found.promoted.items()}


def describe_device(device: dict) -> dict[str, str]:
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


def _newest_field(rows: list[Record], name: str) -> dict:
    return next((value for record in rows if (value := getattr(record, name))), {})


def _dataset(rows: list[Record]) -> str:
    """Name and fingerprint of the data that the newest record with one was measured on."""
    for record in rows:
        for held in (results(record, "dataset"), settings(record, "dataset")):
            if dig(held, "name"):
                fingerprint = dig(held, "fingerprint")
                return f"{held['name']}" + (f", fingerprint {str(fingerprint)[:16]}" if fingerprint else "")
    return ""


def _profile(found: Sources) -> Profile | None:
    """The newest profile that counts here, else the newest."""
    records = [record for record in reversed(found.records) if record.kind == "profile"]
    counting = [record for record in records if found.source(record).counts]
    record = next(iter(counting or records), None)
    return profile.read(record, found.source(record)) if record else None


def _speeds(found: Sources) -> list[Speed]:
    """Every benchmarked candidate once; a library kernel once per target, from the newest bench that timed it."""
    speeds, libraries = [], set()
    read = [bench.read(record, found.source(record)) for record in found.newest("bench")]
    best = {}  # target -> its fastest kernel, so that the page begins with what gains most
    for group in read:
        for speed in group[:1]:
            best[speed.target] = max(best.get(speed.target, 0.0), speed.ratio.value)
    read = [group for group in read if group]
    read.sort(key=lambda group: (-best[group[0].target], group[0].target, -group[0].ratio.value))
    for group in read:
        for speed in group:
            name = (speed.target, speed.kernel)
            if speed.arm == "library" and name in libraries:
                continue
            if speed.arm == "library":
                libraries.add(name)
            speeds.append(speed)
    return speeds


def _events(found: Sources) -> list[Event]:
    promoted = contents(found)
    events = []
    for record in reversed(found.records):
        if record.kind in ("promote", "demote"):
            events.append(promotion.read(record, found.source(record), promoted.get(record.target or "")))
    shipped = [record for record in reversed(found.shipped) if record.kind in ("promote", "demote")]
    return events + [promotion.read(record, found.source(record, True), None) for record in shipped]


def _evidence(found: Sources, shown: list[Record]) -> list[Evidence]:
    rows = [(record, found.source(record)) for record in shown]
    rows += [(record, found.source(record, True)) for record in reversed(found.shipped) if record.kind != "note"]
    return [
        Evidence(
            source=source,
            target=record.target or " + ".join(subject.target for subject in subjects(record)),
            kernel=record.kernel.name if record.kernel else "",
            sha256=record.kernel.sha256 if record.kernel else "",
            verdict=record.verdict or "",
            summary=brief(record),
        )
        for record, source in rows
    ]
