"""A workspace's kernel becomes one of the catalogue: kernels/<target>/<name>.py and its entry in target.toml."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from autoresearch_common.files import write_atomic
from autoresearch_common.hashing import KERNEL_SUFFIXES, kernel_hash
from autoresearch_lab.catalog import Kernel, Target, find_target, load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import Root

NAME = re.compile(r"[a-z][a-z0-9_]*")


def install(kernel: Kernel, target: Target, name: str | None, root: Root) -> Kernel:
    """Copy the kernel to its target's folder and list it; returns it as the catalogue has it then.

    A kernel that the catalogue holds already (same content) is not copied again. The file target.toml is only appended
    to; if anything goes wrong it is as before.

    Raises:
        LabError: the name is not usable or taken by another kernel, or the folder cannot be written.
    """
    known = [k for k in target.kernels if k.sha256 == kernel.sha256 and k.runs_on(kernel.framework, kernel.devices[0])]
    if known and name in (None, known[0].name):
        return known[0]
    name = name or default_name(kernel)
    check_name(name, target)
    listing = target.folder / "target.toml"
    before = listing.read_text(encoding="utf-8")
    copied: list[Path] = []
    try:
        for suffix in KERNEL_SUFFIXES:
            source = kernel.path.with_suffix(suffix)
            if source.is_file():
                copied.append(target.folder / f"{name}{suffix}")
                shutil.copyfile(source, copied[-1])
        if kernel_hash(target.folder / f"{name}.py") != kernel.sha256:
            raise LabError(f"{kernel.path} changed while it was copied")
        write_atomic(listing, before + ("" if before.endswith("\n") else "\n") + "\n" + entry(kernel, name))
        return find_target(load_catalog(root), target.name).kernel(name, kernel.framework)
    except (OSError, LabError) as error:
        for path in copied:
            path.unlink(missing_ok=True)
        if listing.read_text(encoding="utf-8") != before:
            write_atomic(listing, before)
        if isinstance(error, LabError):
            raise
        raise LabError(f"{target.folder}: cannot be written: {error}") from None


def entry(kernel: Kernel, name: str) -> str:
    """The [[kernels]] table of target.toml, a line per key. JSON's strings and lists are TOML's too."""
    row = {
        "name": name,
        "framework": kernel.framework,
        "devices": list(kernel.devices),
        "role": "candidate",
        "language": kernel.language,
        "file": f"{name}.py",
        "summary": kernel.summary or f"From {kernel.name.replace(':', ' ')}.",
    }
    return "[[kernels]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in row.items())


def default_name(kernel: Kernel) -> str:
    """The workspace folder's name as an identifier."""
    name = re.sub(r"[^a-z0-9_]+", "_", kernel.path.parent.name.lower()).strip("_")
    return name if NAME.fullmatch(name) else f"kernel_{kernel.sha256[:8]}"


def check_name(name: str, target: Target) -> None:
    if not NAME.fullmatch(name):
        raise LabError(f"kernel name '{name}': use lower-case letters, digits and underscores")
    taken = [path.name for suffix in KERNEL_SUFFIXES if (path := target.folder / f"{name}{suffix}").exists()]
    if name == "oracle" or taken or any(kernel.name == name for kernel in target.kernels):
        raise LabError(f"target {target.name} has a file or kernel '{name}' already; choose another with --name")
