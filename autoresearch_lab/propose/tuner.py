"""The built-in proposer: tries the values that a kernel file declares for its own constants.

    TUNABLE = {"BLOCK": (1024, 2048, 4096)}          in the kernel's Python file, a literal

BLOCK is a constant that is set once: `BLOCK = 4096` at the top level of the Python file, `constexpr ... BLOCK = 4096;`
or `#define BLOCK 4096` in a native source beside it. One constant after the other is moved through its values while the
others stay at the best known ones, so n constants of k values cost about n (k - 1) attempts and not k to the n.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import NATIVE_SUFFIXES, kernel_hash
from autoresearch_lab.catalog import syntax_nodes
from autoresearch_lab.errors import LabError
from autoresearch_lab.propose.attempts import Attempt, Budget, best, restore
from autoresearch_lab.workspace import Workspace
from autoresearch_lab.workspace.folder import KERNEL

DECLARED = "TUNABLE"
_PYTHON = (r"^{name}(?:\s*:[^=\n]+)?\s*=\s*(?P<value>[^#\n]+?)\s*(?:#.*)?$",)
_NATIVE = (
    r"^\s*(?:static\s+)?constexpr\s+[\w:<> ]+\s{name}\s*=\s*(?P<value>[^;\n]+);",
    r"^\s*#\s*define\s+{name}\s+(?P<value>\S+)",
)


class Tuner:
    """Proposes one setting of the declared constants after the other; remembers what it proposed by what it wrote."""

    def __call__(self, workspace: Workspace, attempts: list[Attempt], budget: Budget) -> str | None:
        """See `Proposer`. Raises LabError where the kernel declares nothing, or not as it should be declared."""
        choices = declared(workspace.folder / KERNEL)
        if not choices:
            return f"{workspace.folder / KERNEL} declares no {DECLARED}"
        if attempts:
            # As long as nothing is FASTER, around what the workspace began with.
            restore(workspace, best(attempts) or attempts[0])
        tried = {attempt.kernel_sha256 for attempt in attempts} | {kernel_hash(workspace.kernel.path)}
        now = {name: value_of(workspace.folder, name) for name in choices}
        for name, values in choices.items():
            for value in values:
                set_value(workspace.folder, name, value)
                if kernel_hash(workspace.kernel.path) not in tried:
                    return None
            set_value(workspace.folder, name, now[name])
        return "every declared value was tried"


def declared(path: Path) -> dict[str, tuple[int | float, ...]]:
    """The TUNABLE of a kernel file, read without running it; empty where there is none.

    Raises:
        LabError: it is no literal dictionary from names to numbers.
    """
    for node in syntax_nodes(path):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [getattr(target, "id", None) for target in targets]
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and names == [DECLARED]:
            try:
                found = ast.literal_eval(node.value)
                return {str(name): tuple(map(_number, values)) for name, values in found.items()}
            except (ValueError, TypeError, AttributeError):
                raise LabError(f"{path}: {DECLARED} has to be a dictionary of names and numbers") from None
    return {}


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return value


def value_of(folder: Path, name: str) -> str:
    """What the constant is set to. Raises LabError where it is not set exactly once."""
    _, _, match = _find(folder, name)
    return match["value"].strip()


def set_value(folder: Path, name: str, value: int | float | str) -> None:
    """Set the constant. Raises LabError where it is not set exactly once."""
    path, text, match = _find(folder, name)
    start, end = match.span("value")
    path.write_text(text[:start] + str(value) + text[end:], encoding="utf-8")


def _find(folder: Path, name: str) -> tuple[Path, str, re.Match[str]]:
    kernel = folder / KERNEL
    files = [path for suffix in (".py", *NATIVE_SUFFIXES) if (path := kernel.with_suffix(suffix)).is_file()]
    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except ValueError:
            raise LabError(f"{path} is not UTF-8") from None
        for form in _PYTHON if path.suffix == ".py" else _NATIVE:
            matches = re.finditer(form.format(name=re.escape(name)), text, re.MULTILINE)
            found += [(path, text, match) for match in matches]
    if len(found) != 1:
        raise LabError(f"{kernel}: {DECLARED} names {name}, which is set {len(found)} times; once is wanted")
    return found[0]
