"""What a worker is sent to do, and how its reply becomes part of this machine's ledger.

A reply is believed only as far as it can be checked: every record has to hash to its own id, every file to what its
record says, and the verdict has to be about the very kernel, contract, workloads, device and software that were asked
for. The records are then written anew, into the one chain of the driver's ledger.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from autoresearch_common.hashing import json_sha256
from autoresearch_lab.ceilings import ceilings_notes
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.evidence import Subject, newest_profile
from autoresearch_lab.executor.packing import PackedWorkloads, RecordExecutor, Reply, Task, pack_kernel, pack_workloads
from autoresearch_lab.lab import Lab
from autoresearch_lab.results import lines
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.record import CeilingsRecord, Record, VerifyRecord
from autoresearch_lab.workloads import WorkloadSet

ERRORS = {"LabError": LabError, "LabFailure": LabFailure}


@dataclass
class Tasks:
    """The driver's side of a step. workloads: target -> its captured calls; profile_id: the ledger record of the
    profile that they come from; bench_seconds: budget of one benchmark."""

    lab: Lab
    workloads: Callable[[str], WorkloadSet]
    profile_id: str | None
    bench_seconds: float

    def pack(self, subject: Subject, step: str) -> Task:
        """The step as plain data, with the records that it rests on."""
        known: list[Record | None] = []
        if step == "bench":
            captured = self.workloads(subject.target.name)
            known = [newest_profile(self.lab, target=subject.target.name, workloads=captured.sha256)]
            known += ceilings_notes(self.lab)
            known += [subject.latest(self.lab.ledger, VerifyRecord)]
        return {
            "step": step,
            "kernel": pack_kernel(subject.kernel),
            "records": [record.plain() for record in known if record is not None],
            "profile": self.profile_id,
            "bench_seconds": self.bench_seconds,
        }

    def captured(self, target: str) -> PackedWorkloads:
        """The target's workloads as plain data."""
        return pack_workloads(self.workloads(target))

    def merge(self, reply: Reply, subject: Subject, step: str, executor: RecordExecutor) -> None:
        """Append what a worker's step gave. executor: where it was carried out; goes into the settings.

        Raises:
            LabFailure: the reply is not what was asked for; nothing of it is kept.
            LabError, LabFailure: the step itself could not be done there; notes that it left are kept.
        """
        try:
            records = [_record(plain, step) for plain in reply["records"]]
            for record in records:
                self._check(record, subject, step)
            if reply["error"] is None and sum(record.kind == step for record in records) != 1:
                raise ValueError(f"it holds no record of the {step}")
            files = {
                artifact.path: _checked(artifact.path, reply["files"][artifact.path], artifact.sha256)
                for record in records
                for artifact in record.artifacts or []
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = str(error).splitlines()[0] if not isinstance(error, ValidationError) else "not a ledger record"
            where = executor["node"]
            raise LabFailure(f"{step} of {subject.kernel.name}: the reply of {where} is refused: {reason}") from None
        folder = self.lab.root.runs / f"{step}-{subject.target.name}-{secrets.token_hex(4)}"
        renamed: dict[str, str] = {}
        for record in records:
            renamed[record.id] = self._append(record, subject, folder, files, renamed, executor).id
        if reply["error"] is not None:
            name, message = reply["error"]
            raise ERRORS.get(name, LabFailure)(f"{message} (on {executor.get('node')})")

    def _check(self, record: Record, subject: Subject, step: str) -> None:
        """Raises ValueError where the record is not one that this step can have left."""
        if record.kind == step:
            stale = subject.staleness(record)
            if stale is not None:
                raise ValueError(f"it is about {stale}")
            return
        if not isinstance(record, CeilingsRecord):
            raise ValueError(f"it holds a record of kind {record.kind}")
        found = {"engine": record.engine, "device_key": record.device_key, "software_key": record.software_key}
        if found != self.lab.context.keys():
            raise ValueError("its ceilings are those of another machine")

    def _append(
        self,
        record: Record,
        subject: Subject,
        folder: Path,
        files: dict[str, bytes],
        renamed: dict[str, str],
        executor: RecordExecutor,
    ) -> Record:
        """Write the record anew: with the ids that its neighbours have here, and paths of this lab."""
        plain = record.plain()
        fields = {
            name: plain[name]
            for name in ("engine", "device", "software", "target", "workloads", "seeds", "results", "verdict")
        }
        settings = {name: renamed.get(value, value) if isinstance(value, str) else value
                    for name, value in plain["settings"].items()}  # fmt: skip
        if settings.get("workspace") is not None:
            settings["workspace"] = self.lab.root.relative(subject.kernel.path.parent)
        artifacts = []
        for artifact in record.artifacts or []:
            path = folder / Path(artifact.path).name
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[artifact.path])
            artifacts.append({"path": self.lab.root.relative(path), "sha256": artifact.sha256})
        return self.lab.ledger.append(
            record.kind,
            **fields,
            kernel=record.kernel and record.kernel.model_dump(),
            settings={**settings, "executor": executor},
            artifacts=artifacts or None,
        )


def _record(line: Facts, step: str) -> Record:
    """Raises ValueError where a line is not a record, not the one that was written, or none that the step leaves."""
    if "id" not in line or "kind" not in line:
        raise ValueError("it holds what is not a ledger record")
    if json_sha256({name: value for name, value in line.items() if name != "id"}) != line["id"]:
        raise ValueError("a record was changed on its way")
    if line["kind"] not in (step, "note"):
        raise ValueError(f"it holds a record of kind {line['kind']}")
    return lines.read(line)


def _checked(path: str, content: bytes, sha256: str) -> bytes:
    """The content of a file. Raises ValueError where it is not that of the hash."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{Path(path).name} was changed on its way")
    return content
