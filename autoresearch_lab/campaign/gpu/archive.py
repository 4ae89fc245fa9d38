"""What a call brings back besides its result: one archive, written again after every part and every benched kernel, so
that a machine that goes away leaves what there was."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from autoresearch_common.files import replacing_file, write_atomic
from autoresearch_lab import lookup
from autoresearch_lab.campaign.gpu.result import GpuResult
from autoresearch_lab.campaign.gpu.setting import Setting
from autoresearch_lab.errors import LabError
from autoresearch_lab.promote.artifacts import MOST_FILE_BYTES

ARCHIVE, RESULT = "evidence.tar.gz", "gpu.json"
# Of all files together; most of it is compressed already. A machine that is lent may give back no larger files.
MOST_BYTES = 14 << 20
FILES = "files"
LEDGER = "ledger.jsonl"


def pack(setting: Setting) -> list[str]:
    """Write the archive: the ledger, the files that its records name, what jobs said before they failed, and the runs
    of the trainer. Returns what is not in it; where it cannot be written at all, why. Nothing that a part has found is
    given away for that."""
    target = setting.out / ARCHIVE
    left_out, total = [], 0
    try:
        with replacing_file(target) as new, tarfile.open(new, "w:gz", compresslevel=3) as archive:
            for name, path in _files(setting):
                size = path.stat().st_size
                if name != LEDGER and (size > MOST_FILE_BYTES or total + size > MOST_BYTES):
                    left_out.append(name)
                    continue
                total += size
                archive.add(path, name, recursive=False)
    except (OSError, LabError, tarfile.TarError) as error:
        return [f"everything ({error})"]
    return left_out


def _files(setting: Setting) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file), what matters most first."""
    root = setting.root
    if root.ledger.exists():
        yield LEDGER, root.ledger
    yield from _found(setting.work, "**/failures/*")
    if root.ledger.exists():
        paths = sorted({path for path, _, _ in lookup.files(setting.lab.ledger)})
        yield from ((f"{FILES}/{path}", root.path / path) for path in paths if (root.path / path).is_file())
    yield from _found(root.runs, "**/std*.log")
    # What failed in a first try lies below `work` as well.
    yield from _found(setting.work, "**/std*.log", "*.json", "train/*/*.json")


def _found(folder: Path, *patterns: str) -> Iterator[tuple[str, Path]]:
    for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            yield f"{folder.name}/{path.relative_to(folder).as_posix()}", path


def write_result(setting: Setting, result: GpuResult) -> None:
    write_atomic(setting.out / RESULT, result.model_dump_json(indent=1, by_alias=True) + "\n")
