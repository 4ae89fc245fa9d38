"""How what came back of calls for a GPU becomes part of the project's evidence:

python -m benchmarks.gpu.evidence FOLDER [FOLDER ...]

FOLDER: what came back of one call each; their records are added to results/kernel_lab/shipped/<device>.jsonl, the
files that these name to the folder <device>, and their results are merged into one beside it, from which
docs/gpu-results.md is made.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from autoresearch_common.files import write_atomic
from autoresearch_lab.campaign.gpu.archive import ARCHIVE, FILES, LEDGER, RESULT
from autoresearch_lab.campaign.gpu.result import Benched, GpuResult, Verified
from autoresearch_lab.campaign.steps import StepEnd
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root
from autoresearch_lab.promote import shipping
from autoresearch_lab.promote.shipping import Shipped
from autoresearch_lab.results.record import Record

KINDS = ("profile", "capture", "trace", "review", "verify", "bench", "note")


def merged(results: Sequence[GpuResult]) -> GpuResult:
    """One result of several calls on the same machine, oldest first: of every part the newest that was done, of every
    kernel the newest verdict. Raises ValueError where they are of different machines, or rehearsed."""
    if any(result.rehearsed for result in results):
        raise ValueError("a rehearsal measures nothing")
    if any((one.machine, one.device_key) != (results[0].machine, results[0].device_key) for one in results):
        raise ValueError("these results are from different machines or software")
    commits = dict.fromkeys(str(result.commit) for result in results)
    parts: dict[str, StepEnd] = {}
    for result in results:
        for name, part in result.parts.items():
            before = parts.get(name)
            if before is None or part.state == "done" or before.state != "done":
                parts[name] = _with_verdicts_of(part, before)
    seconds = sum(result.seconds for result in results)
    return results[0].model_copy(update={"parts": parts, "commit": ", ".join(commits), "seconds": seconds})


def _with_verdicts_of(part: StepEnd, before: StepEnd | None) -> StepEnd:
    """With the verdicts of single kernels that only the earlier call has."""
    earlier = before.found if before else None
    if not isinstance(earlier, (Verified, Benched)):
        return part
    now = part.found.root if isinstance(part.found, (Verified, Benched)) else {}
    newer = {name: told for name, told in now.items() if told.verdict or name not in earlier.root}
    return part.model_copy(update={"found": type(earlier).model_validate({**earlier.root, **newer})})


def ship(folders: Sequence[Path], root: Root) -> tuple[Path, Shipped]:
    """(the merged result, what became of the records and their files): see the module.

    Raises:
        ValueError, LabError, OSError, KeyError, tarfile.TarError: what is no such folder.
    """
    read = [(folder / RESULT).read_text(encoding="utf-8") for folder in folders]
    result = merged([GpuResult.model_validate_json(text) for text in read])
    with ExitStack() as stack:
        archives = [stack.enter_context(tarfile.open(folder / ARCHIVE)) for folder in folders]
        found = [Record.model_validate(json.loads(line)) for archive in archives for line in _ledger_lines(archive)]
        devices = [record.device for record in found if record.device and record.device.get("kind") == "cuda"]
        keys = {device["key"] for device in devices}
        if len(keys) != 1:
            raise ValueError(f"records of one GPU wanted; found {', '.join(sorted(keys)) or 'none'}")
        key = keys.pop()
        records = [record for record in found if (record.device or {}).get("key") == key and record.kind in KINDS]
        # The newest archive first: what it has of a file that was written anew is what the newest record names.
        shipped = shipping.add(root, key, records, [partial(_member, archive) for archive in reversed(archives)])
    page = root.shipped / f"{key}.gpu.json"
    write_atomic(page, result.model_dump_json(indent=1, by_alias=True) + "\n")
    return page, shipped


def _ledger_lines(archive: tarfile.TarFile) -> list[str]:
    file = _open(archive, LEDGER)
    return io.TextIOWrapper(file, encoding="utf-8").read().splitlines() if file else []


def _member(archive: tarfile.TarFile, path: str) -> BinaryIO | None:
    """A file that a record names; None where the archive does not have it."""
    return _open(archive, f"{FILES}/{path}")


def _open(archive: tarfile.TarFile, name: str) -> BinaryIO | None:
    try:
        member = archive.getmember(name)
    except KeyError:
        return None
    return cast(BinaryIO, archive.extractfile(member)) if member.isfile() else None  # never what a link points to


def main() -> None:
    parser = argparse.ArgumentParser(description="Add what calls of benchmarks/gpu.sh brought back to the evidence.")
    parser.add_argument("folders", type=Path, nargs="+", help="with gpu.json and evidence.tar.gz, oldest first")
    options = parser.parse_args()
    try:
        result, shipped = ship(options.folders, Root())
    except (LabError, OSError, ValueError, KeyError, TypeError, EOFError, zlib.error, tarfile.TarError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")
    print(f"{shipped.added} records added to {shipped.path}; result: {result}")
    for path, reason in shipped.left_out.items():
        print(f"left out: {path}: {reason}")


if __name__ == "__main__":
    main()
