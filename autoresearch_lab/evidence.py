"""Which evidence counts: a record speaks for a kernel only while everything that it rests on is unchanged.

A verdict is keyed by the kernel's content and that of the baseline that it was judged against, the target's contract
and oracle, the captured workloads, the device and the software (the lab's own judging code included). When any of them
changes, the record stays in the ledger and stops counting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.records import Record


@dataclass(frozen=True)
class Subject:
    """What evidence is asked for: this kernel of this target, on these workloads, here and now."""

    target: Target
    kernel: Kernel
    workloads_sha256: str
    context: Context

    def staleness(self, record: Record) -> str | None:
        """Why `record` does not speak for this subject any more, in a word or two; None where it does."""
        device, software = record.device or {}, record.software or {}
        reasons = {
            "another kernel content": record.kernel is None or record.kernel.sha256 != self.kernel.sha256,
            "another engine": record.engine != self.context.engine.name,
            "another device": device.get("key") != self.context.device["key"],
            "another software": software.get("key") != self.context.software["key"],
            "another contract": (record.settings or {}).get("contract_sha256") != self.target.contract_sha256,
            "another baseline": other_baseline(record, self.target),
            "other workloads": (record.workloads or {}).get("sha256") != self.workloads_sha256,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def latest(self, ledger: Ledger, kind: str, **settings: Any) -> Record | None:
        """The newest record of that kind which counts for this subject and whose settings hold `settings`."""
        for record in reversed(ledger.find(kind=kind, target=self.target.name)):
            given = record.settings or {}
            if self.staleness(record) is None and all(given.get(key) == value for key, value in settings.items()):
                return record
        return None


def other_baseline(record: Record, target: Target) -> bool:
    """Whether the record was judged against another content of the target's baseline than today's. An A/B's other arm
    may have had another kernel altogether, which then is what it was against; then there is nothing to compare."""
    given = (record.settings or {}).get("baseline")
    if record.kind == "ab" and isinstance(given, dict):
        given = given.get(target.name)
    if not isinstance(given, dict) or not given.get("sha256"):
        return False
    framework = framework_of(record)
    today = [kernel for kernel in target.kernels if kernel.role == "baseline" and kernel.framework == framework]
    return any(kernel.name == given.get("name") and kernel.sha256 != given["sha256"] for kernel in today)


def framework_of(record: Record) -> str:
    """The framework of the engine that a record was made with; the names of kernels are its own."""
    return "mlx" if record.engine == "mlx" else "torch"
