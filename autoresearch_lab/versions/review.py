"""Whether a changed trainer is worth a trial: what it touches, whether it imports and trains, and what memory it takes.

Two steps of real size, uncompiled, and one batch of evaluation: seconds, in the place of the minutes after which a
trial would say the same. What breaks only in compiled code is not seen.
"""

from __future__ import annotations

import ast
import importlib.util
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from autoresearch_common.hashing import json_sha256
from autoresearch_lab import jobs
from autoresearch_lab.ab.cache import Cache
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import PACKAGES
from autoresearch_lab.results.base import Facts
from autoresearch_lab.results.trial import FailedHow
from autoresearch_lab.versions.run import Versions
from autoresearch_lab.versions.sides import LOCKED, Side, changed_files, forbidden_changes
from autoresearch_lab.versions.training import SideFailed, SideTrainer
from autoresearch_trainer.config import preset
from autoresearch_trainer.jobs import Report

# What an idea may edit; whatever else it changes is named.
EDITABLE = (
    *(f"autoresearch_trainer/{name}.py" for name in ("config", "model", "optim", "train")),
    *(f"autoresearch_{engine}/{name}.py" for engine in ("cuda", "mlx") for name in ("model", "optim", "train")),
)
# Who measures, and what was measured.
MEASURES = ("autoresearch_lab/", "results/")
STEPS, LIMIT_SECONDS = 2, 300.0


@dataclass(frozen=True)
class VersionFinding:
    """One thing that was noticed. kind: "evaluation" and "lab" are changes of what is locked; "import": a module that
    is not there, or a file that is no Python; "dependency": one that side a does without; how it failed to train; or
    "beyond": a file that is not among those meant to be edited, which alone is no reason not to try it."""

    kind: Literal["evaluation", "lab", "import", "dependency", "beyond"] | FailedHow
    note: str

    @property
    def stops(self) -> bool:
        return self.kind != "beyond"


@dataclass(frozen=True)
class VersionReview:
    """What was found of side b. changed: its files that differ from side a's. memory_mb: the peak of two steps; None
    where it did not come to them. planned: the memory that its own train.py expects, in its words."""

    findings: list[VersionFinding]
    changed: list[str]
    memory_mb: float | None
    planned: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not any(finding.stops for finding in self.findings)

    def plain(self) -> Facts:
        found = [{**asdict(finding), "stops": finding.stops} for finding in self.findings]
        return {**asdict(self), "findings": found, "passed": self.passed}


def review(versions: Versions, listen: Report = lambda message: None) -> VersionReview:
    """Look side b over. It is trained only where its files do not stop it already.

    Raises:
        LabError: side b refuses its options.
        LabFailure: the set-up is at fault: the lab's own trainer does not train either.
    """
    started, a, b = time.monotonic(), versions.a, versions.b
    changed = changed_files(a, b)
    findings = [VersionFinding("evaluation", f"it changes {what}") for what in forbidden_changes(a, b)]
    measure = [path for path in changed if path.startswith(MEASURES)]
    beyond = [path for path in changed if path not in (*EDITABLE, *LOCKED, *measure)]
    if measure:
        findings.append(VersionFinding("lab", f"it changes who measures: {', '.join(measure)}"))
    findings += _imports(a, b, [path for path in changed if path.startswith(PACKAGES) and path.endswith(".py")])
    if beyond:
        findings.append(VersionFinding("beyond", f"outside of what is meant to be edited: {', '.join(beyond)}"))
    memory, planned = None, ""
    if not any(finding.stops for finding in findings):
        try:
            memory, planned = _trained(versions, listen)
        except SideFailed as failure:
            findings.append(VersionFinding(failure.kind, failure.note))
        except _Cheats as error:
            findings.append(VersionFinding("evaluation", str(error)))
    return VersionReview(findings, changed, memory, planned, round(time.monotonic() - started, 1))


class _Cheats(Exception):
    """What the lab refuses in the midst of a training: another clock, losses that are not those of the logits."""


def _trained(versions: Versions, listen: Report) -> tuple[float, str]:
    """(peak memory of two steps in MiB, memory that its plan expects), of real batches in one pass per step."""
    lab, side, base = versions.lab, versions.b, preset(versions.preset)
    identity = json_sha256(["review", side.recorded().plain(), versions.preset, lab.context.keys()])
    with jobs.running(lab.root.runs / f"review-{identity[:12]}") as folder:
        trainer = SideTrainer(
            lab.context, versions.preset, versions.rule, Cache(lab.root), folder, identity, listen, limit=LIMIT_SECONDS
        )
        trainer.plan(side)
        plan = trainer.plans[side.name]
        planned = next((f"{one.value} ({one.why})" for one in plan.choices if one.name == "memory"), "")
        one_pass = plan.config.batch_size * base.model.sequence_len
        if plan.config.total_batch_tokens > one_pass:
            side = replace(side, options={**side.options, "total_batch_tokens": str(one_pass)})
        few = base.evaluated_batch * base.model.sequence_len
        try:
            found = trainer.train(side, versions.rule.seed, STEPS, few, f"side {side.name}: {STEPS} steps")
        except LabError as error:
            raise _Cheats(str(error)) from None
        shutil.rmtree(folder, ignore_errors=True)  # after a failure its logs stay
    return found.peak_memory_mb, planned


def _imports(a: Side, b: Side, paths: list[str]) -> Iterator[VersionFinding]:
    """What the changed files import that is neither Python's, nor of their tree, nor anything that side a imports."""
    own = {*sys.stdlib_module_names, *(entry.stem for entry in b.folder.iterdir())}
    new: dict[str, str] = {}
    for path in filter(lambda path: (b.folder / path).is_file(), paths):
        try:
            new |= {name: path for name in _imported(b.folder / path) if name not in own}
        except (SyntaxError, ValueError) as error:
            where = f"{path}:{error.lineno}" if isinstance(error, SyntaxError) else path
            yield VersionFinding("import", f"{where} is no Python: {getattr(error, 'msg', error)}")
    known: set[str] = set()
    for file in [file for name in PACKAGES for file in (a.folder / name).rglob("*.py")] if new else ():
        with suppress(SyntaxError, ValueError):
            known |= _imported(file)
    for name, path in new.items():
        if name not in known and importlib.util.find_spec(name) is None:
            yield VersionFinding("import", f"{path} imports {name}, which is not installed here")
        elif name not in known:
            yield VersionFinding("dependency", f"{path} imports {name}, without which side a does")


def _imported(path: Path) -> set[str]:
    """Packages that a file imports. Raises SyntaxError or ValueError where it is no Python."""
    nodes = list(ast.walk(ast.parse(path.read_bytes())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names}
