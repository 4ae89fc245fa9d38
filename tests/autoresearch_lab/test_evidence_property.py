"""What the report says counts is what the gate accepts, whatever has changed since the records were made."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from autoresearch_lab import ledger
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.evidence import decide
from autoresearch_lab.lab import Lab
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import Root
from autoresearch_lab.promote.check import readiness
from autoresearch_lab.report import sources
from autoresearch_lab.results.record import AbRecord, BenchRecord, Record, VerifyRecord

CONTRACT = """name = "{name}"
summary = "twice x"
signature = "(x) -> y"
phase = "forward"
args = [{{ name = "x", kind = "array", grad = true }}]
outputs = [{{ name = "y", dtype = "like:x" }}]
tolerance = {{ factor = 2.0, floor = {{ float32 = 1e-6 }} }}
[[kernels]]
name = "torch_eager"
framework = "torch"
devices = ["cpu", "cuda"]
role = "baseline"
language = "python"
file = "torch_eager.py"
[[kernels]]
name = "fused"
framework = "torch"
devices = ["cpu", "cuda"]
role = "candidate"
language = "python"
file = "fused.py"
"""
TARGETS = ("double", "triple")
FIRST, SECOND = "a1" * 32, "b2" * 32


class World:
    """A lab of two targets, and what can change in it. `context` is today's."""

    def __init__(self, path: Path) -> None:
        self.root = Root(path)
        self.context = Context(ENGINES["cpu"], {"kind": "cpu", "key": "cpu-1"}, {"python": "3", "key": "s1"})
        self.ledger = Lab.of(self.context, self.root).ledger

    @property
    def lab(self) -> Lab:
        return Lab.of(self.context, self.root, self.ledger)

    def create(self) -> World:
        """The catalogue, its workloads, and evidence of everything on them."""
        for name in TARGETS:
            folder = self.root.kernels / name
            folder.mkdir(parents=True)
            (folder / "target.toml").write_text(CONTRACT.format(name=name))
            for file in ("oracle", "torch_eager", "fused"):
                (folder / f"{file}.py").write_text(f"# {name} {file}\n")
        self.capture(FIRST)
        self.judge(FIRST)
        return self

    def edit(self, target: str, file: str, old: str = "#", new: str = "# edited,") -> None:
        path = self.root.kernels / target / file
        path.write_text(path.read_text().replace(old, new))

    def capture(self, sha256: str, preset: str = "cpu-nano") -> None:
        sets = {target: {"sha256": sha256, "path": "x", "count": 1} for target in TARGETS}
        settings = {"event": "workloads", "preset": preset}
        self.ledger.append(
            "capture", **self.context.fields(), settings=settings, workloads=sets, results={"workloads": sets}
        )

    def judge(self, sha256: str) -> None:
        """Verify, bench and A/B of every target's kernel on that set, and an A/B of both."""
        candidates, baselines = {}, {}
        for name, target in load_catalog(self.root).items():
            kernel, baseline = (target.kernel(which, "torch").id.model_dump() for which in ("fused", "torch_eager"))
            rests_on: dict[str, Any] = {"contract_sha256": target.contract_sha256}
            about: dict[str, Any] = {**self.context.fields(), "target": name, "kernel": kernel}
            about["workloads"] = {"sha256": sha256, "count": 1}
            for kind, verdict in (("verify", "PASS"), ("bench", "FASTER")):
                self.ledger.append(kind, **about, settings={**rests_on, "baseline": baseline}, verdict=verdict)
            baselines[name] = baseline
            candidates[name] = {**kernel, **rests_on, "workloads_sha256": sha256}
            self._ab({name: candidates[name]}, {name: baseline}, **about)
        self._ab(candidates, baselines, **self.context.fields())

    def _ab(self, candidate: dict[str, Any], baseline: dict[str, Any], **about: Any) -> None:
        settings = {"preset": "cpu-nano", "candidate": candidate, "baseline": baseline}
        self.ledger.append("ab", **about, settings=settings, verdict="PROMOTE")

    def elsewhere(self, **changes: Any) -> None:
        self.context = replace(self.context, **changes)

    def rewrite(self, old: str, new: str) -> None:
        """By hand, in the first line of the ledger that has `old`; where new is empty the line is taken out."""
        lines = self.ledger.path.read_text().splitlines(keepends=True)
        place = next(place for place, line in enumerate(lines) if old in line)
        lines[place] = lines[place].replace(old, new) if new else ""
        self.ledger.path.write_text("".join(lines))


CHANGES: dict[str, Callable[[World], None]] = {
    "kernel": lambda world: world.edit("double", "fused.py"),
    "baseline": lambda world: world.edit("double", "torch_eager.py"),
    "oracle": lambda world: world.edit("double", "oracle.py"),
    "contract": lambda world: world.edit("triple", "target.toml", "factor = 2.0", "factor = 1.5"),
    "workloads": lambda world: world.capture(SECOND),
    "workloads of another preset": lambda world: world.capture(SECOND, "cpu-tiny"),
    "engine": lambda world: world.elsewhere(engine=ENGINES["cuda"]),
    "device": lambda world: world.elsewhere(device={"kind": "cpu", "key": "cpu-2"}),
    "software": lambda world: world.elsewhere(software={"python": "4", "key": "s2"}),
    "line changed": lambda world: world.rewrite('"FASTER"', '"SLOWER"'),
    "line taken out": lambda world: world.rewrite('"verdict":"PASS"', ""),
    "judged anew": lambda world: world.judge(FIRST),
    "judged anew on other calls": lambda world: world.judge(SECOND),
}
# One after the other; what counts may depend on the order of a change and of new evidence.
SEQUENCES: list[tuple[str, ...]] = [(), *permutations(CHANGES, 1), *permutations(CHANGES, 2)]
SEQUENCES += random.Random(14).sample([*permutations(CHANGES, 4)], 40)


def accepted(world: World) -> set[str]:
    """Ids of the newest records that the gate takes."""
    targets = load_catalog(world.root)
    kernels = {name: target.kernel("fused", "torch") for name, target in targets.items()}
    joint = decide(kernels, targets, world.lab)
    taken: list[Record | None] = [joint.record if joint else None]
    for name, target in targets.items():
        taken += readiness(target, kernels[name], world.lab).records.values()
    return {record.id for record in taken if record is not None}


def counting(world: World) -> set[str]:
    """Ids of the newest records of each kind and subject that count, as the report says."""
    found = sources.read(world.lab, world.context)
    newest: dict[tuple[str, str | None], Record] = {}
    for record in found.records:
        if isinstance(record, VerifyRecord | BenchRecord | AbRecord) and found.source(record).counts:
            newest[record.kind, record.target] = record
    return {record.id for record in newest.values()}


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., World]]:
    """after(*changes) -> the world in which these came about one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "commit_of", lambda folder: None)  # asks git, each time
        first = World(tmp_path_factory.mktemp("first")).create()

        def made(*changes: str) -> World:
            path = tmp_path_factory.mktemp("after")
            shutil.copytree(first.root.path, path, dirs_exist_ok=True)
            world = World(path)
            for change in changes:
                CHANGES[change](world)
            return world

        yield made


@pytest.mark.parametrize("first", [None, *CHANGES])
def test_what_the_report_counts_is_what_the_gate_accepts(after: Callable[..., World], first: str | None) -> None:
    for changes in SEQUENCES:
        if next(iter(changes), None) == first:
            world = after(*changes)
            assert counting(world) == accepted(world), changes


def test_the_changes_matter(after: Callable[..., World]) -> None:
    """Unchanged, everything counts; after most of the changes something does not."""
    assert len(counting(after())) == 7
    assert {name: len(counting(after(name))) for name in CHANGES} == {
        "kernel": 3, "baseline": 3, "oracle": 3, "contract": 3, "workloads": 0, "workloads of another preset": 7,
        "engine": 0, "device": 0, "software": 0, "line changed": 6, "line taken out": 5,
        "judged anew": 7, "judged anew on other calls": 7,
    }  # fmt: skip


def test_without_an_engine_the_machine_and_the_calls_are_not_compared(after: Callable[..., World]) -> None:
    world = after("software", "workloads")
    found = sources.read(world.lab, None)
    assert {found.source(record).stale for record in found.records} == {None}
