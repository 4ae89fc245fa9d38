"""The system's C++ compiler: which one it is, how it is called, and the cache of what it built.

Both engines compile C++ at run time; this module knows no array framework, so that both may import it. Shared objects
lie in `<cache root>/<folder>`, where the cache root is $AUTORESEARCH_CACHE or ~/.cache/autoresearch; a folder that
cannot be written is replaced by a temporary one for the life of the process.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from filelock import FileLock

COMPILERS = ("g++", "clang++", "c++")


class CompilerMissing(Exception):
    """There is no C++ compiler on this machine."""


class HeadersMissing(Exception):
    """Python's own C headers are not installed."""


class CompileFailed(Exception):
    """The compiler refused a source. `message` is its first error line, `output` all that it said."""

    def __init__(self, message: str, output: str = "") -> None:
        self.output = output
        super().__init__(message)


@cache
def find() -> tuple[tuple[str, ...], str]:
    """Command of the C++ compiler ($CXX first) and the text of its --version. Raises CompilerMissing."""
    configured = os.environ.get("CXX")
    for candidate in [shlex.split(configured)] if configured else [[name] for name in COMPILERS]:
        if candidate and (path := shutil.which(candidate[0])):
            command = (path, *candidate[1:])
            done = subprocess.run([*command, "--version"], capture_output=True, text=True)
            if done.returncode == 0:
                return command, done.stdout
    wanted = f"CXX={configured}" if configured else " or ".join(COMPILERS)
    raise CompilerMissing(f"no C++ compiler ({wanted}); install one, for instance the package g++")


def python_headers() -> Path:
    """The folder of Python.h, which what extends Python is compiled against. Raises HeadersMissing."""
    folder = Path(sysconfig.get_path("include"))
    # A framework build on a Mac may name a folder that does not exist; its headers are beside its library.
    framework = Path(sysconfig.get_path("stdlib")).parent.parent / "Headers"
    for candidate in (folder, framework) if sys.platform == "darwin" else (folder,):
        if (candidate / "Python.h").is_file():
            return candidate
    raise HeadersMissing(f"no {folder / 'Python.h'}; install Python's headers, for instance the package python3-dev")


def run(command: Sequence[str], source_name: str) -> None:
    """Run a compiler. Raises CompileFailed with its first error line; `source_name` is what the message calls it."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        first = next((line for line in lines if "error:" in line), lines[0])
        raise CompileFailed(f"{command[0]} cannot compile {source_name}: {first.strip()}", done.stderr)


def digest(parts: Iterable[bytes]) -> str:
    """Name of a build: a hash over everything that its result depends on, the boundaries between parts included."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:32]


def cached(folder_name: str, name: str, make: Callable[[Path], None]) -> Path:
    """The file `name` of a cache folder; `make(path)` builds it at a temporary path where it is absent.

    Processes that want the same file at once build it once; the file appears under its name only when complete.
    """
    folder = cache_root() / folder_name
    target = folder / name
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            if not target.is_file():
                _build(target, make)
    except OSError:
        target = temporary_folder() / name
        if not target.is_file():
            _build(target, make)
    return target


def cache_root() -> Path:
    """$AUTORESEARCH_CACHE, or ~/.cache/autoresearch."""
    configured = os.environ.get("AUTORESEARCH_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "autoresearch"


def _build(target: Path, make: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as scratch:
        built = Path(scratch, target.name)
        make(built)
        os.replace(built, target)


@cache
def temporary_folder() -> Path:
    """What stands in for a cache that cannot be written; it goes with the process."""
    folder = tempfile.mkdtemp(prefix="autoresearch-native-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
