"""What a call brings back besides its result, and how that becomes part of the project's evidence:

python -m benchmarks.gpu.evidence FOLDER [FOLDER ...]

One archive, written again after every part and every benched kernel, so that a machine that goes away leaves what there
was. FOLDER: what came back of one call each; their records are added to results/kernel_lab/shipped/<device>.jsonl, the
files that these name to the folder <device>, and their results are merged into one beside it, from which
docs/gpu-results.md is made.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root, write_atomic
from autoresearch_lab.promote import shipping
from autoresearch_lab.promote.artifacts import MOST_FILE_BYTES
from autoresearch_lab.promote.shipping import Shipped
from autoresearch_lab.results.record import Record
from benchmarks.gpu.setting import Setting

ARCHIVE, RESULT = "evidence.tar.gz", "gpu.json"
# Of all files together; most of it is compressed already. A machine that is lent may give back no larger files.
MOST_BYTES = 14 << 20
FILES = "files"
LEDGER = "ledger.jsonl"
# Verdicts of single kernels, by name: a later call has others than an earlier one.
BY_KERNEL = ("verify", "bench")
KINDS = ("profile", "capture", "trace", "review", "verify", "bench", "note")


def pack(setting: Setting) -> list[str]:
    """Write the archive: the ledger, the files that its records name, what jobs said before they failed, and the runs
    of the trainer. Returns what is not in it; where it cannot be written at all, why. Nothing that a part has found is
    given away for that."""
    target = setting.out / ARCHIVE
    temporary = target.with_name(f".{ARCHIVE}")
    left_out, total = [], 0
    try:
        with tarfile.open(temporary, "w:gz", compresslevel=3) as archive:
            for name, path in _files(setting):
                size = path.stat().st_size
                if name != LEDGER and (size > MOST_FILE_BYTES or total + size > MOST_BYTES):
                    left_out.append(name)
                    continue
                total += size
                archive.add(path, name, recursive=False)
        os.replace(temporary, target)
    except (OSError, LabError, tarfile.TarError) as error:
        return [f"everything ({error})"]
    return left_out


def _files(setting: Setting) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file), what matters most first."""
    root = setting.root
    if root.ledger.exists():
        yield LEDGER, root.ledger
        paths = {one.path for record in setting.ledger.records() for one in record.artifacts or []}
        yield from ((f"{FILES}/{path}", root.path / path) for path in sorted(paths) if (root.path / path).is_file())
    logs = (path for path in root.runs.glob("**/std*.log") if path.stat().st_size)
    yield from ((f"runs/{path.relative_to(root.runs).as_posix()}", path) for path in logs)
    for pattern in ("*.json", "train/*/*.json"):
        for path in setting.work.glob(pattern):
            yield f"work/{path.relative_to(setting.work).as_posix()}", path


def write_result(setting: Setting, result: dict[str, Any]) -> None:
    write_atomic(setting.out / RESULT, json.dumps(result, indent=1) + "\n")


def merged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result of several calls on the same machine, oldest first: of every part the newest that was done, of every
    kernel the newest verdict. Raises ValueError where they are of different machines, or rehearsed."""
    if any(result["rehearsed"] for result in results):
        raise ValueError("a rehearsal measures nothing")
    if len({json.dumps([result["machine"], result["device_key"]], sort_keys=True) for result in results}) != 1:
        raise ValueError("these results are from different machines or software")
    commits = dict.fromkeys(str(result.get("commit")) for result in results)
    whole: dict[str, Any] = {**results[0], "parts": {}, "commit": ", ".join(commits)}
    whole["seconds"] = sum(result["seconds"] for result in results)
    for result in results:
        for name, part in result["parts"].items():
            before = whole["parts"].get(name)
            if before is None or part["status"] == "done" or before["status"] != "done":
                kept = ((before or {}).get("found") or {}) if name in BY_KERNEL else {}
                whole["parts"][name] = _with_verdicts_of(part, kept)
    return whole


def _with_verdicts_of(part: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    if not earlier:
        return part
    now = {name: told for name, told in (part["found"] or {}).items() if told["verdict"] or name not in earlier}
    return {**part, "found": {**earlier, **now}}


def ship(folders: Sequence[Path], root: Root) -> tuple[Path, Shipped]:
    """(the merged result, what became of the records and their files): see the module.

    Raises:
        ValueError, LabError, OSError, KeyError, tarfile.TarError: what is no such folder.
    """
    result = merged([json.loads((folder / RESULT).read_text(encoding="utf-8")) for folder in folders])
    with ExitStack() as stack:
        archives = [stack.enter_context(tarfile.open(folder / ARCHIVE)) for folder in folders]
        found = [Record.model_validate(json.loads(line)) for archive in archives for line in _ledger_lines(archive)]
        keys = {record.device["key"] for record in found if (record.device or {}).get("kind") == "cuda"}
        if len(keys) != 1:
            raise ValueError(f"records of one GPU wanted; found {', '.join(sorted(keys)) or 'none'}")
        key = keys.pop()
        records = [record for record in found if (record.device or {}).get("key") == key and record.kind in KINDS]
        # The newest archive first: what it has of a file that was written anew is what the newest record names.
        shipped = shipping.add(root, key, records, [partial(_member, archive) for archive in reversed(archives)])
    page = root.shipped / f"{key}.gpu.json"
    write_atomic(page, json.dumps(result, indent=1) + "\n")
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
