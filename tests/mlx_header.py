"""Has MLX's CPU build find its header compiled: reading it takes three quarters of the time in which it compiles one of
its fused operations, and the tests have it compile hundreds."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from pathlib import Path

from autoresearch_common import compiler
from autoresearch_common.hashing import json_sha256

HEADER = Path("mlx/backend/cpu/compiled_preamble.h")
# As MLX calls the compiler, which takes a compiled header for the same flags alone.
FLAGS = ("-std=c++17", "-O3", "-Wall", "-fPIC")


def folder_of_compiler() -> Path | None:
    """A folder with a `g++` that looks there first; None without MLX, without GCC, or where that fails."""
    found, real = importlib.util.find_spec("mlx"), shutil.which("g++")
    places = [Path(place) / "include" for place in found.submodule_search_locations or ()] if found else []
    include = next((place for place in places if (place / HEADER).is_file()), None)
    if real is None or include is None:
        return None
    told = subprocess.run([real, "--version"], capture_output=True, text=True).stdout
    if "clang" in told:
        return None
    versions = [real, told, importlib.metadata.version("mlx")]
    root = compiler.cache_root() / f"tests_mlx_header-{json_sha256(versions)[:12]}"

    def make(wrapper: Path) -> None:
        own = root / HEADER
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(include / HEADER, own)
        command = [real, *FLAGS, "-I", str(include), "-x", "c++-header", str(own), "-o", f"{own}.gch"]
        compiler.run(command, HEADER.name)
        wrapper.write_text(f'#!/bin/sh\nexec "{real}" -I "{root}" "$@"\n')
        wrapper.chmod(0o755)

    try:
        return compiler.cached(root.name, "g++", make).parent
    except (compiler.CompileFailed, OSError):
        return None
