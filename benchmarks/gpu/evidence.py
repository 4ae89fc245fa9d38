"""What a call brings back besides its result, and how that becomes part of the project's evidence:

python -m benchmarks.gpu.evidence FOLDER [FOLDER ...]

One archive, written again after every part and every benched kernel, so that a machine that goes away leaves what there
was. FOLDER: what came back of one call each; their records are added to results/kernel_lab/shipped/<device>.jsonl, and
their results are merged into one beside it, from which docs/gpu-results.md is made.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root, write_atomic
from benchmarks.gpu.setting import Setting

ARCHIVE, RESULT = "evidence.tar.gz", "gpu.json"
# Of one file, and of all; most of it is compressed already. A machine that is lent may give back no larger files.
MOST_FILE_BYTES, MOST_BYTES = 4 << 20, 14 << 20
LEDGER = "ledger.jsonl"
# Verdicts of single kernels, by name: a later call has others than an earlier one.
BY_KERNEL = ("verify", "bench")
KINDS = ("profile", "capture", "verify", "bench", "note")


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
        yield from ((f"files/{path}", root.path / path) for path in sorted(paths) if (root.path / path).is_file())
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


def ship(folders: Sequence[Path], root: Root) -> tuple[Path, Path, int]:
    """(records, result, number of new records): see the module. Raises ValueError or OSError for what is no such
    folder."""
    result = merged([json.loads((folder / RESULT).read_text(encoding="utf-8")) for folder in folders])
    lines = [line for folder in folders for line in _ledger_lines(folder / ARCHIVE)]
    found = [(json.loads(line), line) for line in lines]
    about = [record["device"] or {} for record, _ in found]
    device = {one["key"] for one in about if one.get("kind") == "cuda"}
    if len(device) != 1:
        raise ValueError(f"records of one GPU wanted; found {', '.join(sorted(device)) or 'none'}")
    key = device.pop()
    records = root.shipped / f"{key}.jsonl"
    held = records.read_text(encoding="utf-8") if records.exists() else ""
    known = {json.loads(line)["id"] for line in held.splitlines()}
    added: dict[str, str] = {}
    for record, line in found:
        here = (record["device"] or {}).get("key") == key
        if here and record["kind"] in KINDS and record["id"] not in known:
            added[record["id"]] = line
    write_atomic(records, held + "".join(f"{line}\n" for line in added.values()))
    page = root.shipped / f"{key}.gpu.json"
    write_atomic(page, json.dumps(result, indent=1) + "\n")
    return records, page, len(added)


def _ledger_lines(archive: Path) -> list[str]:
    with tarfile.open(archive) as file:
        try:
            member = file.extractfile(LEDGER)
        except KeyError:
            return []
        return io.TextIOWrapper(member, encoding="utf-8").read().splitlines() if member else []


def main() -> None:
    parser = argparse.ArgumentParser(description="Add what calls of benchmarks/gpu.sh brought back to the evidence.")
    parser.add_argument("folders", type=Path, nargs="+", help="with gpu.json and evidence.tar.gz, oldest first")
    options = parser.parse_args()
    try:
        records, result, count = ship(options.folders, Root())
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error, tarfile.TarError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{count} records added to {records}; result: {result}")


if __name__ == "__main__":
    main()
