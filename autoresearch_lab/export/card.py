"""What an exported kernel carries of its evidence: a card for people, and the records themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError
from autoresearch_lab.evidence import Subject, differences, newest_here, present
from autoresearch_lab.export.package import package_name
from autoresearch_lab.format import Estimate, times_interval
from autoresearch_lab.lab import Lab
from autoresearch_lab.results.record import AbRecord, BenchRecord, Record, VerifyRecord

CARD, RECORDS = "README.md", "evidence.jsonl"


@dataclass(frozen=True)
class CarriedEvidence:
    """The records that count for a kernel here and now. ab: the newest A/B that it took part in."""

    verify: VerifyRecord
    bench: BenchRecord | None
    ab: AbRecord | None

    @property
    def records(self) -> list[Record]:
        return [record for record in (self.verify, self.bench, self.ab) if record is not None]


def carried(kernel: Kernel, target: Target, targets: Mapping[str, Target], lab: Lab) -> CarriedEvidence:
    """What counts for that content of the kernel.

    Raises:
        LabError: it has not passed verification here.
    """
    verify, bench = Subject(target, kernel, None, lab.context).judged(lab.ledger)
    if verify is None or verify.verdict != "PASS":
        why = "failed verification" if verify else "has not passed verification here; run verify first"
        raise LabError(f"export: {target.name}={kernel.name} {why}")
    now = present(lab, targets)
    abs_here = (
        record
        for record in newest_here(lab, AbRecord)
        if (judged := record.settings.candidate.get(target.name)) is not None
        and judged.sha256 == kernel.sha256
        and not record.results.disturbed
        and not differences(record, now)
    )
    return CarriedEvidence(verify, bench, next(abs_here, None))


def lines(evidence: CarriedEvidence) -> str:
    """The records as JSON lines, as the ledger holds them."""
    return "".join(json.dumps(record.plain(), sort_keys=True) + "\n" for record in evidence.records)


def card(kernel: Kernel, target: Target, evidence: CarriedEvidence) -> str:
    """The card in Markdown: what it is, how it is called, and what was measured where."""
    module, contract = package_name(kernel), target.contract
    parameters = [(one.name, one.doc) for one in contract.args] + [(one.name, one.doc) for one in contract.outputs]
    summary = (kernel.summary or contract.summary).rstrip(".")
    parts = [
        f"---\ntags:\n- kernel\n---\n# {target.name} ({kernel.name})\n\n{summary}.\n",
        f"    from {module} import {target.name}\n    # {target.name}{contract.signature}\n",
        "\n".join(f"- `{name}`: {doc}" for name, doc in parameters if doc) + "\n",
        f"For {', '.join(kernel.devices)}. {_needs(kernel)}\n",
        "## What was measured\n\n" + _table(evidence),
        f"Content of the kernel that was judged: `{kernel.sha256}`. Here its imports are relative; nothing else "
        f"differs. The records are in `{RECORDS}`. A speed holds for the device and the software that it was measured "
        "with:\n",
        "\n".join(_where(evidence.verify)) + "\n",
    ]
    return "\n".join(parts)


def _needs(kernel: Kernel) -> str:
    needs = {
        "cpp": "Its C++ source is compiled at the first import, which takes a C++ compiler (g++ or clang++), and kept "
        "in `~/.cache/autoresearch`. Forward and backward are operators of `torch.library`.",
        "triton": "It takes Triton, which comes with PyTorch's builds for GPUs. Forward and backward are operators of "
        "`torch.library`.",
    }
    return needs.get(kernel.language, "It is written in PyTorch's own operations and differentiated by them.")


def _table(evidence: CarriedEvidence) -> str:
    verify, bench, ab = evidence.verify, evidence.bench, evidence.ab
    cells: list[tuple[str, str, str, Record]] = [("verify", verify.verdict, _verified(verify), verify)]
    if bench is not None:
        found = bench.results
        against = f" against {found.against}" if found.against else ""
        cells.append(("bench", bench.verdict, _speed(found.ratio, found.interval) + against, bench))
    if ab is not None:
        result, others = ab.results, len(ab.settings.candidate) - 1
        ends = (result.ratio_lower, result.ratio_upper)
        speed = _speed(result.ratio, None if None in ends else ends) + " tokens/s"
        shared = f", with {others} more kernel{'s' * (others > 1)}" if others else ""
        cells.append((f"A/B, {ab.settings.preset}", ab.verdict, speed + shared, ab))
    rows = [
        f"| {what} | {verdict} | {said} | {one.time[:10]} | `{one.id[:12]}` |" for what, verdict, said, one in cells
    ]
    missing = [what for what, record in (("bench", bench), ("A/B", ab)) if record is None]
    note = f"\nNo {' and no '.join(missing)} counts for this content here.\n" if missing else ""
    return "\n".join(["| step | verdict | | when | record |", "|---|---|---|---|---|", *rows]) + "\n" + note


def _verified(record: VerifyRecord) -> str:
    checks = sum(check.status == "pass" for check in record.results.checks)
    where = ", interpreted on a CPU" if record.settings.interpreted else ""
    return f"{checks} checks against a float64 oracle{where}"


def _speed(ratio: float | None, ends: Any) -> str:
    return "-" if ratio is None or ends is None else times_interval(Estimate(ratio, *ends))


def _where(record: Record) -> list[str]:
    facts = {"device": record.device or {}, "software": record.software or {}}
    return [
        f"- {what}: "
        + ", ".join(f"{key} {value}" for key, value in known.items() if isinstance(value, str | int | float))
        for what, known in facts.items()
    ]
