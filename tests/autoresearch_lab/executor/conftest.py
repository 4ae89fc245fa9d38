"""A cluster in this process: the workers are the real ones, what they measure is planned, only plain data passes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoresearch_common.hashing import file_sha256
from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.ceilings import ceilings_notes
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.errors import LabFailure
from autoresearch_lab.evidence import Subject
from autoresearch_lab.executor import worker
from autoresearch_lab.executor.admission import Lost, Node
from autoresearch_lab.executor.cluster import Cluster
from autoresearch_lab.executor.tasks import Tasks
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.orchestrate import Candidate, State, Steps, drive, state_of
from autoresearch_lab.paths import Root
from autoresearch_lab.pipeline import Pipeline
from autoresearch_lab.workloads import WorkloadSet


@dataclass(eq=False)
class Call:
    """A call that is carried out when somebody waits for it."""

    handle: worker.Worker
    method: str
    arguments: tuple[Any, ...]
    node: Node
    answer: Any = None
    done: bool = False


@dataclass
class Machines:
    """deaths: how many steps on a node end with the worker's death. hello: what a node says otherwise than the truth.
    gone: nodes that are lost with their worker. runs: (node, step, kernel) of what was carried out, in order."""

    names: tuple[str, ...]
    manifest: dict[str, str] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)
    hello: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    runs: list[tuple[str, str, str]] = field(default_factory=list)
    spoil: Callable[[dict[str, Any]], None] = lambda reply: None
    interrupt: bool = False
    closed: bool = False
    most_at_once: int = 0
    _homes: dict[int, Node] = field(default_factory=dict)
    _hired: list[worker.Worker] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        return [Node(f"id-{name}", name, 0.0 if name == "head" else 2.0) for name in self.names]

    def hire(self, node: Node) -> worker.Worker:
        made = worker.Worker()
        self._hired.append(made)
        self._homes[id(made)] = node
        return made

    def call(self, handle: worker.Worker, method: str, *arguments: Any) -> Call:
        require_plain(arguments)
        return Call(handle, method, arguments, self._homes[id(handle)])

    def share(self, value: Any) -> Any:
        require_plain(value)
        return value

    def wait(self, references: Sequence[Call], seconds: float) -> list[Call]:
        waiting = [call for call in references if not call.done]
        self.most_at_once = max(self.most_at_once, len(waiting))
        if waiting and waiting[0].method == "run" and self.interrupt:
            raise KeyboardInterrupt
        for call in waiting[:1]:
            call.answer, call.done = self._carry_out(call), True
        return [call for call in references if call.done]

    def _carry_out(self, call: Call) -> Any:
        name = call.node.name
        if call.method == "run":
            task = call.arguments[0]
            self.runs.append((name, task["step"], task["kernel"]["name"]))
            if self.deaths[name] > 0:
                self.deaths[name] -= 1
                if name in self.gone:
                    self.names = tuple(other for other in self.names if other != name)
                return Lost("it was killed")
        try:
            answer = getattr(call.handle, call.method)(*call.arguments)
        except ValueError as error:
            return LabFailure(str(error))
        if call.method == "hello":
            answer |= {"machine": name, **self.hello.get(name, {})}
        if call.method == "run":
            self.spoil(answer)
        require_plain(answer)
        return answer

    def fetch(self, reference: Call) -> Any:
        if isinstance(reference.answer, Exception):
            raise reference.answer
        return reference.answer

    def dismiss(self, handle: worker.Worker) -> None:
        handle.close()

    def close(self) -> None:
        self.closed = True


def require_plain(value: Any) -> None:
    """Nothing but dictionaries, lists, text, numbers and bytes goes from one machine to another."""
    if isinstance(value, dict):
        for key, item in value.items():
            assert isinstance(key, str)
            require_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            require_plain(item)
    else:
        assert value is None or type(value) in (str, int, float, bool, bytes), type(value)


@dataclass
class Driver:
    """A driver with two kernels to judge, and a cluster; `verdicts` says what a worker finds of a kernel."""

    root: Root
    ledger: Ledger
    context: Context
    captured: WorkloadSet
    machines: Machines
    verdicts: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    steps_taken: list[str] = field(default_factory=list)

    def candidate(self, name: str) -> Candidate:
        target = load_catalog(self.root)["rms_norm"]
        folder = self.root.workspaces / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kernel.py").write_text(f"def rms_norm(x, eps):  # {name}\n    ...\n")
        path = folder / "kernel.py"
        kernel = Kernel("rms_norm", f"workspace:{name}", "torch", ("cpu",), "candidate", "python", path)
        subject = Subject(target, kernel, self.captured.sha256, self.context)
        return Candidate(1, target, kernel, folder, 0.5, 0.5, self.captured.sha256, subject)

    def tasks(self) -> Tasks:
        return Tasks(Lab.of(self.context, self.root, self.ledger), lambda target: self.captured, None, 5.0)

    def cluster(self) -> Cluster:
        return Cluster(lambda: self.machines, self.tasks(), self.said.append)

    def drive(self, *names: str) -> dict[str, State]:
        stop = {name: lambda candidate: None for name in ("extract", "verify", "bench", "ab", "promote", "together")}
        pipeline = SimpleNamespace(
            lab=Lab.of(self.context, self.root, self.ledger), workloads=lambda target: self.captured,
            profile=SimpleNamespace(id=None), _say=self.said.append,
        )  # fmt: skip
        failed = partial(Pipeline.failed, pipeline)
        steps = Steps(**stop, state=lambda c: state_of(c, self.ledger, {}, {}, True), failed=failed)
        on_step = lambda candidate, step: self.steps_taken.append(f"{step}: {candidate.label}")  # noqa: E731
        return drive([self.candidate(name) for name in names], steps, on_step, executor=self.cluster())


@pytest.fixture
def lab(root: Root, context: Context, captured: WorkloadSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    made = Driver(root, Ledger(root.ledger), context, captured, Machines(("a", "b")))
    threads = lambda: {name: value for name, value in os.environ.items() if name.startswith(worker.THREADS)}  # noqa: E731
    before = threads()

    def fields(kernel: Kernel, target: Any, workload_set: WorkloadSet) -> dict[str, Any]:
        return {
            **context.fields(),
            "target": target.name,
            "kernel": {"name": kernel.name, "sha256": kernel.sha256},
            "workloads": workload_set.record_field(),
        }

    def verify(kernel, target, workload_set, lab, *, run_dir, profile_id):
        settings = {"contract_sha256": target.contract_sha256, "workspace": lab.root.relative(kernel.path.parent)}
        verdict = "FAIL" if made.verdicts.get(kernel.name) == "FAIL" else "PASS"
        lab.ledger.append(
            "verify", **fields(kernel, target, workload_set), settings=settings, results={}, verdict=verdict
        )

    def bench(kernel, target, workload_set, lab, *, run_dir, budget_seconds):
        if made.verdicts.get(kernel.name) == "impossible":
            raise LabFailure("impossible")
        if made.verdicts.get(kernel.name) == "bug":
            raise ValueError("a bug")
        notes = ceilings_notes(lab)
        notes = notes or [lab.ledger.append("note", **context.fields(), settings={"event": "ceilings"}, results={})]
        verified = lab.ledger.find(kind="verify")[-1]
        run_dir.mkdir(parents=True)
        (run_dir / "samples.json.gz").write_bytes(b"samples of " + kernel.name.encode())
        path = run_dir / "samples.json.gz"
        lab.ledger.append(
            "bench",
            **fields(kernel, target, workload_set),
            settings={
                "contract_sha256": target.contract_sha256, "ceilings": notes[-1].id, "verify": verified.id,
                "budget_seconds": budget_seconds,
            },
            results={"ratio": 2.0},
            verdict="FASTER",
            artifacts=[{"path": lab.root.relative(path), "sha256": file_sha256(path)}],
        )  # fmt: skip

    monkeypatch.setattr(worker, "verify", verify)
    monkeypatch.setattr(worker, "bench", bench)
    monkeypatch.setattr(worker, "context", lambda engine, root: context)
    monkeypatch.setattr(worker, "choose", lambda name: ENGINES[name])
    monkeypatch.setattr(worker.tempfile, "tempdir", str(tmp_path))
    yield made
    assert threads() == before
