"""The executor over the nodes of a cluster: one worker per node, one step at a time on each.

What is lost with a worker is started once more, on whichever node is free first; a step that is lost twice is left for
the next run. The ledger is written here, and only with whole replies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.executor.admission import Crew, Lost, Transport, admit
from autoresearch_lab.executor.executor import Ended, Item
from autoresearch_lab.executor.tasks import Tasks
from autoresearch_trainer.jobs import Progress

# So often a step may lose its worker, and a node its workers, before both are left alone in this run.
MOST_LOSSES = 2
# For a worker in place of one that was lost. The others finish what they do meanwhile and get nothing new; a node that
# has just died may still count as alive.
REPLACE_SECONDS = 40.0
# How often the progress is told while nothing ends.
TICK_SECONDS = 1.0


@dataclass
class _Running:
    """A step under way; `answer` is the transport's reference to its reply."""

    crew: Crew
    item: Item
    step: str
    answer: Any


class Cluster:
    """See `executor.Executor`. connect: joins the cluster (raises LabError where it cannot). say: lines for the user;
    tell: progress messages."""

    def __init__(
        self,
        connect: Callable[[], Transport],
        tasks: Tasks,
        say: Callable[[str], None],
        tell: Callable[[Progress], None] = lambda message: None,
    ) -> None:
        self._connect, self._tasks, self._say, self._tell = connect, tasks, say, tell
        self._transport: Transport | None = None
        self._crews: list[Crew] = []
        self._running: list[_Running] = []
        self._captured: dict[str, object] = {}
        self._losses: Counter[str] = Counter()

    def open(self) -> None:
        """Join the cluster and admit workers. Raises LabError where it cannot be joined, or no node may work."""
        self._transport = self._connect()
        nodes = sorted(self._transport.nodes(), key=lambda node: node.name)
        context = self._tasks.lab.context
        self._crews, refused = admit(self._transport, nodes, context, [], self._say)
        if not self._crews:
            raise LabError("ray: no node can work for this machine: " + ("; ".join(refused) or "there is none"))
        self._say(f"ray: {len(self._crews)} of {len(nodes)} nodes work: {', '.join(c.node.name for c in self._crews)}")

    def vacancy(self) -> str | None:
        crew = self._free()
        return None if crew is None else f" on {crew.node.name}"

    def start(self, item: Item, step: str) -> None:
        crew = self._free()
        assert crew is not None and self._transport is not None
        target = item.subject.target.name
        if target not in self._captured:
            self._captured[target] = self._transport.share(self._tasks.captured(target))
        task = self._tasks.pack(item.subject, step)
        answer = self._transport.call(crew.handle, "run", task, self._captured[target])
        self._running.append(_Running(crew, item, step, answer))

    def wait(self) -> list[Ended]:
        assert self._transport is not None
        if not self._running:
            raise LabFailure(
                "ray: all workers were lost; run orchestrate again to continue, the ledger has what was done"
            )
        while True:
            arrived = self._transport.wait([running.answer for running in self._running], TICK_SECONDS)
            if arrived:
                break
            first = self._running[0]
            rest = f" and {len(self._running) - 1} more" if len(self._running) > 1 else ""
            self._tell({"stage": f"{first.step} of {first.item.label} on {first.crew.node.name}{rest}"})
        ended = [running for running in self._running if running.answer in arrived]
        self._running = [running for running in self._running if running.answer not in arrived]
        return [self._end(running) for running in ended]

    def close(self) -> None:
        if self._transport is None:
            return
        busy = [running.crew for running in self._running]
        idle = [crew for crew in self._crews if crew not in busy]
        try:
            leaving = [self._transport.call(crew.handle, "close") for crew in idle]
            self._transport.wait(leaving, TICK_SECONDS)
            for crew in self._crews:
                self._transport.dismiss(crew.handle)
        except Lost:
            pass  # what is gone need not be sent away
        finally:
            self._transport.close()
            self._transport, self._crews, self._running = None, [], []

    def _free(self) -> Crew | None:
        busy = [running.crew for running in self._running]
        return next((crew for crew in self._crews if crew not in busy), None)

    def _end(self, running: _Running) -> Ended:
        """Take a reply in."""
        assert self._transport is not None
        try:
            reply = self._transport.fetch(running.answer)
            self._tasks.merge(reply, running.item.subject, running.step, running.crew.executor())
        except Lost as lost:
            return Ended(running.item, self._lose(running, str(lost)))
        except (LabError, LabFailure) as failure:
            return Ended(running.item, True, str(failure))
        return Ended(running.item, True)

    def _lose(self, running: _Running, why: str) -> bool:
        """A worker is gone: hire another one on its node, if that is still there; may the step be tried again?"""
        assert self._transport is not None
        node, name = running.crew.node, f"{running.step} of {running.item.label}"
        self._crews.remove(running.crew)
        self._transport.dismiss(running.crew.handle)
        self._losses.update([node.id, name])
        over = self._losses[name] >= MOST_LOSSES
        future = "it is left for the next run" if over else "it will be tried again"
        self._say(f"ray: the worker on {node.name} was lost with the {name} ({why}); {future}")
        if self._losses[node.id] < MOST_LOSSES and node.id in [alive.id for alive in self._transport.nodes()]:
            context, seconds = self._tasks.lab.context, REPLACE_SECONDS
            self._crews += admit(self._transport, [node], context, self._crews, self._say, seconds)[0]
        return over
