"""Which nodes of a cluster may work: those that run the same code on the same kind of machine, with nobody beside.

Evidence is keyed by device and software. A node of another kind would measure something that counts for nothing here,
so it is left aside before it gets work, in one line that says why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from autoresearch_lab.errors import LabFailure
from autoresearch_lab.executor.packing import Hello, RecordExecutor
from autoresearch_lab.executor.worker import THREADS
from autoresearch_lab.machine import Context

# For a node to start a worker, which unpacks the code and imports the framework once. One whose processors are taken by
# other work of the cluster does not answer before they are free.
HELLO_SECONDS = 120.0


class Lost(Exception):
    """A worker or its node died, or could not be started; the message is one line."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster. cpus, gpus: what it offers to the cluster's work; all of it is taken."""

    id: str
    name: str
    cpus: float
    gpus: float = 0.0


@dataclass(eq=False)
class Crew:
    """A worker that was admitted: its node, how the transport names it, and what it said about itself."""

    node: Node
    handle: Any
    hello: Hello = field(default_factory=lambda: cast(Hello, {}))

    def executor(self) -> RecordExecutor:
        """As the settings of a record say where it was made."""
        return {"name": "ray", "node": self.node.name, "niceness": self.hello["niceness"]}


class Transport(Protocol):
    """What a cluster does for the lab. A reference stands for an answer that is still to come, or for shared data."""

    manifest: dict[str, str]

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""

    def hire(self, node: Node) -> Any:
        """Start a worker that has the whole node; returns its handle at once."""

    def call(self, handle: Any, method: str, *arguments: Any) -> Any:
        """Call a method of the worker; returns a reference."""

    def share(self, value: Any) -> Any:
        """Put data where all workers can have it; the reference may be an argument of `call`."""

    def wait(self, references: Sequence[Any], seconds: float) -> list[Any]:
        """Those references whose answer has come, or will never come, after at most so long."""

    def fetch(self, reference: Any) -> Any:
        """The answer. Raises Lost where the worker died, LabFailure where it raised."""

    def dismiss(self, handle: Any) -> None:
        """End a worker, whatever it does."""

    def close(self) -> None:
        """Leave the cluster."""


def admit(
    transport: Transport,
    nodes: Sequence[Node],
    context: Context,
    taken: Sequence[Crew],
    say: Callable[[str], None],
    seconds: float = HELLO_SECONDS,
) -> tuple[list[Crew], list[str]]:
    """Ask every node who it is; returns the workers that may work, and why each of the others may not.

    taken: the workers that there are already. seconds: how long they may take. Each refusal is said as well.
    """
    asked: list[tuple[Crew, Any]] = []
    refused: list[str] = []
    admitted: list[Crew] = []
    threads = {name: value for name, value in os.environ.items() if name.startswith(THREADS)}
    niceness = os.getpriority(os.PRIO_PROCESS, 0)

    def refuse(node: Node, reason: str) -> None:
        refused.append(f"{node.name}: {reason}")
        say(f"ray: node {node.name} is left aside: {reason}")

    for node in nodes:
        if node.cpus < 1:
            refuse(node, "it offers no processors to the cluster")
            continue
        try:
            crew = Crew(node, transport.hire(node))
            question = (context.engine.name, transport.manifest, threads, niceness)
            asked.append((crew, transport.call(crew.handle, "hello", *question)))
        except Lost as lost:
            refuse(node, str(lost))
    arrived = _answered(transport, [reference for _, reference in asked], seconds)
    for crew, reference in asked:
        try:
            if reference not in arrived:
                raise Lost(f"no worker started there within {seconds:.0f} s; other work may hold its processors")
            crew.hello = transport.fetch(reference)
            obstacle = _obstacle(crew.hello, context, [*taken, *admitted])
        except (Lost, LabFailure) as lost:
            obstacle = str(lost)
        if obstacle is not None:
            transport.dismiss(crew.handle)
            refuse(crew.node, obstacle)
            continue
        admitted.append(crew)
        if crew.hello["niceness"] != niceness:
            say(
                f"ray: workers on {crew.node.name} run at niceness {crew.hello['niceness']}, here it is {niceness}; "
                "the records say so (RAY_worker_niceness=0 when Ray is started there)"
            )
    return admitted, refused


def _answered(transport: Transport, references: list[Any], seconds: float) -> list[Any]:
    """Those that have an answer before the time is over."""
    end = time.monotonic() + seconds
    waiting, arrived = list(references), []
    while waiting and (left := end - time.monotonic()) > 0:
        arrived += transport.wait(waiting, min(left, 1.0))
        waiting = [reference for reference in references if reference not in arrived]
    return arrived


def _obstacle(hello: Hello, context: Context, others: Sequence[Crew]) -> str | None:
    """Why a worker that answered may not work; None where it may."""
    if hello["error"] is not None:
        return hello["error"]
    here, there = context.device, hello["device"]
    if there["key"] != here["key"]:
        return f"it is another device ({there['key']}, here {here['key']})"
    if hello["software"]["key"] != context.software["key"]:
        return f"its software is another one ({_differences(hello['software'], context.software)})"
    beside = next((other for other in others if other.hello["machine"] == hello["machine"]), None)
    if beside is not None:
        return f"it is on the same machine as {beside.node.name}, and a benchmark needs a machine to itself"
    return None


def _differences(there: Mapping[str, object], here: Mapping[str, object]) -> str:
    names = [name for name in {**here, **there} if name != "key" and there.get(name) != here.get(name)]
    return "; ".join(f"{name} {there.get(name)}, here {here.get(name)}" for name in names)
