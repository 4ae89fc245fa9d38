"""A workspace's kernel becomes one of the catalogue: kernels/<target>/<name>.py and its entry in target.toml."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from autoresearch_common.hashing import KERNEL_SUFFIXES, contents_hash, kernel_contents
from autoresearch_lab.catalog import Kernel, Target
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.results.base import KernelId

NAME = re.compile(r"[a-z][a-z0-9_]*")


def install(kernel: Kernel, target: Target, name: str | None) -> tuple[KernelId, dict[Path, str | bytes]]:
    """(the kernel as the catalogue has it then, {file: its content from now on}); nothing is written here.

    A kernel that the catalogue holds already (same content) is not copied again. The file target.toml is only appended
    to.

    Raises:
        LabError: the name is not usable or taken by another kernel, or a file cannot be read.
    """
    known = [k for k in target.kernels if k.sha256 == kernel.sha256 and k.runs_on(kernel.framework, kernel.devices[0])]
    if known and name in (None, known[0].name):
        return known[0].id, {}
    name = name or default_name(kernel)
    check_name(name, target)
    listing = target.folder / "target.toml"
    with files_at_hand(f"cannot copy {kernel.path}"):
        contents = kernel_contents(kernel.path)
        before = listing.read_text(encoding="utf-8")
    text = before + ("" if before.endswith("\n") else "\n") + "\n" + entry(kernel, name)
    if contents_hash(contents) != kernel.sha256:
        raise LabError(f"{kernel.path} changed while it was copied")
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LabError(f"{listing}: a kernel cannot be listed at its end: {error}") from None
    copies = {target.folder / f"{name}{suffix}": content for suffix, content in contents.items()}
    return KernelId(name=name, sha256=kernel.sha256), {**copies, listing: text}


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
