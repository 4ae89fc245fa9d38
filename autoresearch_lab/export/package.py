"""A kernel and what it calls of this project as one Python package, as texts by their paths in it."""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath

from autoresearch_common.hashing import NATIVE_SUFFIXES
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.errors import LabError, files_at_hand
from autoresearch_lab.paths import CHECKOUT, PACKAGES
from autoresearch_lab.promote.selection import WORKSPACE

# Where the project's own modules lie in an exported package.
KIT = "_kit"
Tree = dict[str, str]

INIT = '''"""{summary}

`{target}` is the function. README.md says what is known of it, evidence.jsonl holds the records.
"""

from .kernel import {target}

__all__ = ["{target}"]
'''


def package_name(kernel: Kernel) -> str:
    """What is imported."""
    return f"{kernel.target}_{kernel.name.removeprefix(WORKSPACE)}".replace("-", "_")


def package(kernel: Kernel) -> Tree:
    """{path: text} of a package that defines the kernel's function. Its modules are those of this project with imports
    among them made relative; nothing else in them is changed.

    Raises:
        LabError: it is no kernel of PyTorch, is made of other targets' kernels, needs another library, or cannot be
            read; or it imports the project in a way that cannot be made relative.
    """
    name = f"{kernel.target}={kernel.name}"
    if kernel.framework != "torch":
        raise LabError(f"export: {name} is no kernel of PyTorch, which all formats are made for")
    if kernel.requires:
        raise LabError(f"export: {name} calls the Python package {kernel.requires}; install that instead")
    if kernel.parts:
        raise LabError(f"export: {name} calls the selected kernels of {', '.join(sorted(kernel.parts))}: export those")
    if not package_name(kernel).isidentifier():
        raise LabError(f"export: {package_name(kernel)!r} is no name for a Python module")
    summary = (kernel.summary or f"A kernel for {kernel.target}").rstrip(".") + "."
    tree = {"__init__.py": INIT.format(summary=summary, target=kernel.target)}
    wanted = _add(tree, "kernel.py", kernel.path, f".{KIT}.")
    for suffix in NATIVE_SUFFIXES:
        source = kernel.path.with_suffix(suffix)
        if source.is_file():
            tree[f"kernel{suffix}"] = _read(source)
    while wanted:
        module = wanted.pop()
        path = f"{KIT}/{module.replace('.', '/')}.py"
        if path in tree:
            continue
        for folder in list(PurePosixPath(path).parents)[:-1]:
            tree.setdefault(f"{folder}/__init__.py", "")
        source = CHECKOUT / f"{module.replace('.', '/')}.py"
        wanted |= _add(tree, path, source, "." * len(module.split(".")))
        if module == "autoresearch_cuda.native":
            tree |= {f"{KIT}/autoresearch_cuda/{one.name}": _read(one) for one in source.parent.glob("*.h")}
    return dict(sorted(tree.items()))


def _add(tree: Tree, path: str, source: Path, prefix: str) -> set[str]:
    """Put a module's text into the tree, imports of this project with `prefix`; the modules that it imports."""
    text, found = _read(source), set()
    lines = text.splitlines(keepends=True)
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError as error:
        raise LabError(f"export: {source} is not Python: {error.msg}") from None
    for node in nodes:
        if isinstance(node, ast.Import) and any(name.name.split(".")[0] in PACKAGES for name in node.names):
            raise LabError(f"export: {source}, line {node.lineno}: write it as `from ... import ...`")
        if not isinstance(node, ast.ImportFrom) or node.level or (node.module or "").split(".")[0] not in PACKAGES:
            continue
        assert node.module is not None
        line = lines[node.lineno - 1]
        lines[node.lineno - 1] = line.replace(f"from {node.module} ", f"from {prefix}{node.module} ", 1)
        found |= {module for name in node.names if (module := _module(node.module, name.name))}
    tree[path] = "".join(lines)
    return found


def _module(package_: str, name: str) -> str | None:
    """The module that `from package_ import name` executes, beside the packages' own."""
    inner = f"{package_}.{name}"
    for module in (inner, package_):
        if (CHECKOUT / f"{module.replace('.', '/')}.py").is_file():
            return module
    return None


def _read(path: Path) -> str:
    with files_at_hand(f"export: cannot read {path}"):
        return path.read_text(encoding="utf-8")
