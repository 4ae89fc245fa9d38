"""What travels to a bare machine with an NVIDIA GPU and no network, for Python 3.12 on Linux x86-64:

python -m benchmarks.gpu.bundle DIR [--no-rivals]

DIR/1, for the first call: the files of this checkout, the wheels of what a bare machine lacks, the prepared
dataset, the commit. DIR/2, for the second: the rest of CuTe DSL with quack and FlashAttention 4, which do not fit into
one trip. Each trip has to fit beside the checkout's own files, which may travel along. docs/cuda.md, "A GPU at hand".
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from autoresearch_data.build import prepare
from autoresearch_data.corpora import find_corpus
from autoresearch_data.dataset import CORPUS_FOLDER
from autoresearch_data.errors import DataError, DataFailure
from autoresearch_lab.campaign.gpu.packages import MACHINE, to_carry
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.repository import commit_of, git

MOST_BYTES = 64 << 20  # of one trip
DATASET = "stdlib"
# Says that a folder is a bundle as it was sent; gpu.sh works in a copy, which has no such file.
MARK, COMMIT = ".sent", ".commit"
RIVALS = (
    *("quack-kernels", "flash-attn-4==4.0.0b36", "apache-tvm-ffi", "torch-c-dlpack-ext"),
    *(f"nvidia-cutlass-dsl{part}" for part in ("", "-libs-base", "-libs-core", "-libs-cu13")),
)
FOR_THE_MACHINE = (
    *(word for n in (39, 35, 34, 31, 28, 27, 24, 17) for word in ("--platform", f"manylinux_2_{n}_x86_64")),
    *("--platform", "manylinux2014_x86_64", "--platform", "any"),
    *("--python-version", "3.12", "--implementation", "cp", "--only-binary", ":all:", "--no-deps"),
)


def make(folder: Path, rivals: bool = True) -> dict[str, int]:
    """Both trips below `folder`; returns the bytes of each, the checkout's own files not counted.

    Raises:
        LabError, LabFailure: a trip is too large, pip or git fails, or something else lies there.
    """
    first, second = folder / "1", folder / "2"
    for trip in (first, second):
        if trip.exists() and not (trip / MARK).is_file():
            raise LabError(f"bundle: {trip} exists and is no bundle; name another folder")
        shutil.rmtree(trip, ignore_errors=True)
        trip.mkdir(parents=True)
        (trip / MARK).touch()
    room = MOST_BYTES - _copy_checkout(first)
    download(to_carry([*MACHINE, "quack-kernels", "flash-attn-4", "flash-attn"]), first / "wheels")
    _copy_data(first / "data" / DATASET)
    _require(_bytes(first), room, "the first trip")
    if rivals:
        with tempfile.TemporaryDirectory() as scratch:
            packed = _pack_rivals(Path(scratch))
            _require(_bytes(first) + packed.stat().st_size, 2 * room, "both trips")
            _split(packed, min(room - _bytes(second), packed.stat().st_size), first, second)
        _require(_bytes(first), room, "the first trip")
    else:
        shutil.rmtree(second)
    return {trip.name: _bytes(trip) for trip in (first, second) if trip.exists()}


def _copy_checkout(to: Path) -> int:
    """Every tracked file as it is now, and which commit that is; returns their bytes."""
    listed = git(CHECKOUT, "ls-files", "-z")
    if not listed:
        raise LabError(f"bundle: {CHECKOUT} is no git checkout")
    for name in listed.rstrip("\0").split("\0"):
        if (CHECKOUT / name).is_file():  # else it was deleted
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, to / name)
    (to / COMMIT).write_text(f"{commit_of(CHECKOUT) or 'unknown'}\n", encoding="utf-8")
    return _bytes(to)


def _copy_data(to: Path) -> None:
    """The prepared dataset without its texts, which training does not read."""
    try:
        source = prepare(find_corpus(DATASET), Root().data(DATASET)).dataset.folder
    except DataError as error:
        raise LabError(f"bundle: {error}") from None
    except DataFailure as error:
        raise LabFailure(f"bundle: {error}") from None
    shutil.copytree(source, to, ignore=shutil.ignore_patterns(CORPUS_FOLDER))


def download(names: Sequence[str], to: Path) -> None:
    """Wheels for the machine, from the index that pip is set to. Raises LabFailure where there are none."""
    _pip("download", "--dest", str(to), *FOR_THE_MACHINE, *names)


def _pack_rivals(scratch: Path) -> Path:
    """CuTe DSL and what is built on it, unpacked and packed anew: less than half of its wheels' size."""
    download(RIVALS, scratch / "wheels")
    wheels = sorted(map(str, (scratch / "wheels").glob("*.whl")))
    _pip("install", "--no-index", "--no-compile", "--target", str(scratch / "site"), *FOR_THE_MACHINE, *wheels)
    packed = scratch / "rivals.tar.xz"
    with tarfile.open(packed, "w:xz", preset=3) as archive:
        archive.add(scratch / "site", ".")
    return packed


def _split(packed: Path, most: int, first: Path, second: Path) -> None:
    """The end of the file, at most so many bytes, goes on the second trip, its beginning on the first."""
    content = packed.read_bytes()
    begins = len(content) - most
    for trip, name, part in ((first, "rivals.0", content[:begins]), (second, "rivals.1", content[begins:])):
        (trip / name).write_bytes(part)


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise LabFailure(f"bundle: pip {arguments[0]}: {(errors or done.stderr.splitlines() or ['failed'])[-1]}")


def _require(found: int, room: int, what: str) -> None:
    if found > room:
        mib = [f"{size / 2**20:.1f} MiB" for size in (found, room)]
        raise LabError(f"bundle: {what} would take {mib[0]}, and beside the checkout's own files {mib[1]} are left")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the folders that travel to a bare machine with a GPU.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where git ignores it, such as build/gpu")
    parser.add_argument("--no-rivals", action="store_true", help="without CuTe DSL, quack and FlashAttention 4")
    options = parser.parse_args()
    try:
        sizes = make(options.folder, not options.no_rivals)
    except (LabError, LabFailure, OSError) as error:
        parser.exit(1 if isinstance(error, LabFailure) else 2, f"error: {' '.join(str(error).split())}\n")
    for trip, size in sizes.items():
        print(f"{options.folder / trip}: {size / 2**20:.1f} MiB")
    print(f"first call:  bash {options.folder / '1'}/benchmarks/gpu.sh --parts first")
    print(f"second call: bash {options.folder / 'lab'}/benchmarks/gpu.sh --parts second")


if __name__ == "__main__":
    main()
