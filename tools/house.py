"""Figures of how the code is built, each with the bound that it has to keep: python tools/house.py

Exit code 0: every bound is kept; 1: one is missed. Tests do not count as code here.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAB = "autoresearch_lab"
FOLDERS = ("autoresearch_*", "kernels", "benchmarks", "tools")
UNTYPED = "dict[str, Any]"
QUERIES = frozenset({"find", "latest", "get", "records"})
MANY_PARAMETERS, FEW_LINES = 8, 25
DOORS = frozenset({"__init__.py", "__main__.py", "train.py", "prepare.py", "kernel-lab.py"})


@dataclass(frozen=True)
class Module:
    """One file of Python. name: as it is imported; path: relative to the project."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def in_lab(self) -> bool:
        return self.name.partition(".")[0] == LAB


@dataclass(frozen=True)
class Figure:
    """bound: the most that `value` may be (None: it has none). found: where it comes from, for whom it is too much."""

    what: str
    value: int
    bound: int | None = None
    found: tuple[str, ...] = ()

    @property
    def missed(self) -> bool:
        return self.bound is not None and self.value > self.bound


def modules(root: Path) -> list[Module]:
    """Every module of the project but its tests."""
    paths = [*root.glob("*.py"), *(path for folder in FOLDERS for path in root.glob(f"{folder}/**/*.py"))]
    found = []
    for path in sorted(paths):
        relative = path.relative_to(root)
        parts = relative.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, relative, path.read_text(encoding="utf-8")))
    return found


def untyped(found: list[Module]) -> Figure:
    others = [module for module in found if module.path.parts[0] not in ("kernels", "tools")]
    counts = {module.path: module.text.count(UNTYPED) for module in others}
    most = sorted((path for path in counts if counts[path]), key=lambda path: -counts[path])
    return Figure(f"{UNTYPED} outside kernels", sum(counts.values()), 200, tuple(f"{p}: {counts[p]}" for p in most))


def querying(found: list[Module]) -> Figure:
    files = tuple(str(module.path) for module in found if module.in_lab and any(_queries(module.tree)))
    return Figure("files of the lab that query the ledger", len(files), 3, files)


def _queries(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of a question to a ledger: to what is named so, to a new Ledger(...), and inside of the class itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == "Ledger":
            yield from (call for call in _questions(node) if _called(call.func) == "self")
    yield from (call for call in _questions(tree) if _called(call.func).lower().endswith("ledger"))


def _questions(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in QUERIES:
            yield node


def _called(function: ast.expr) -> str:
    """The name of what a method is called on: `ledger` of lab.ledger.find, `Ledger` of Ledger(path).records."""
    value = function.value if isinstance(function, ast.Attribute) else function
    if isinstance(value, ast.Call):
        value = value.func
    return value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""


def repeated_classes(found: list[Module]) -> Figure:
    places: dict[str, list[str]] = defaultdict(list)
    for module in found:
        if module.in_lab:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(module.path))
    twice = tuple(f"{name}: {', '.join(where)}" for name, where in sorted(places.items()) if len(where) > 1)
    return Figure("class names that stand more than once in the lab", len(twice), 0, twice)


def circles(found: list[Module]) -> Figure:
    """Groups of modules that import each other when they are loaded."""
    groups = _circles(found, for_types=False)
    return Figure("import circles", len(groups), 0, groups)


def circles_of_types(found: list[Module]) -> Figure:
    """The same, with what is imported for type checkers alone."""
    groups = _circles(found, for_types=True)
    return Figure("import circles, with what only type checkers import", len(groups), None, groups)


def _circles(found: list[Module], for_types: bool) -> tuple[str, ...]:
    names = {module.name for module in found}
    graph = {module.name: set(_imports(module, names, for_types)) - {module.name} for module in found}
    return tuple(" -> ".join(group) for group in _components(graph) if len(group) > 1)


def _imports(module: Module, names: set[str], for_types: bool) -> Iterator[str]:
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package = package[:-1]
    for node in _at_module_level(module.tree.body, for_types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in names or base in names:
                    yield inner if inner in names else base


def _at_module_level(body: list[ast.stmt], for_types: bool) -> Iterator[ast.stmt]:
    """Statements that run when a module is loaded. for_types: and those for type checkers."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not for_types:
            yield from _at_module_level(node.orelse, for_types)
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            for name in ("body", "orelse", "finalbody"):
                yield from _at_module_level(getattr(node, name, []), for_types)
            for handler in getattr(node, "handlers", []):
                yield from _at_module_level(handler.body, for_types)


def _components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components: what can be reached from each other."""
    reached = {name: _reachable(graph, name) for name in graph}
    groups: list[list[str]] = []
    for name in sorted(graph):
        if not any(name in group for group in groups):
            groups.append([name, *sorted(other for other in reached[name] if other != name and name in reached[other])])
    return groups


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def many_parameters(found: list[Module]) -> Figure:
    wide = []
    for module in found:
        for node in ast.walk(module.tree) if module.in_lab else ():
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _parameters(node) >= MANY_PARAMETERS:
                wide.append(f"{module.path}:{node.lineno} {node.name} ({_parameters(node)})")
    return Figure(f"functions of the lab with {MANY_PARAMETERS} parameters or more", len(wide), 8, tuple(wide))


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """`self`, `cls`, *args and **kwargs not counted."""
    plain = [*node.args.posonlyargs, *node.args.args]
    own = bool(plain) and plain[0].arg in ("self", "cls")
    return len(plain) + len(node.args.kwonlyargs) - own


def small_modules(found: list[Module]) -> Figure:
    """Kernels are left out: one is as short as its formula."""
    small = [m for m in found if m.lines < FEW_LINES and m.path.parts[0] != "kernels" and not _is_door(m)]
    named = tuple(f"{module.path}: {module.lines}" for module in small)
    return Figure(f"modules under {FEW_LINES} lines that are no doors", len(small), None, named)


def _is_door(module: Module) -> bool:
    """One by its name, or one that only imports, and starts what it imported."""
    statements = [node for node in module.tree.body if not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr))]
    return module.path.name in DOORS or all(isinstance(node, ast.If) for node in statements)


def figures(root: Path) -> list[Figure]:
    """All of them. Raises SyntaxError where a module is no Python."""
    found = modules(root)
    return [
        Figure("modules", len(found)),
        Figure("lines", sum(module.lines for module in found)),
        *(measure(found) for measure in MEASURES),
    ]


MEASURES = (untyped, querying, repeated_classes, circles, many_parameters, circles_of_types, small_modules)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, nargs="?", default=ROOT, help="the project [default: this one]")
    parser.add_argument("--all", action="store_true", help="name what was found where the bound is kept, too")
    options = parser.parse_args(arguments)
    measured = figures(options.root)
    for figure in measured:
        kept = "" if figure.bound is None else f"  (at most {figure.bound}{': MISSED' if figure.missed else ''})"
        print(f"{figure.value:>7,}  {figure.what}{kept}")
        if options.all or figure.missed or figure.bound is None:
            print("".join(f"{'':>9}{line}\n" for line in figure.found), end="")
    return int(any(figure.missed for figure in measured))


if __name__ == "__main__":
    sys.exit(main())
