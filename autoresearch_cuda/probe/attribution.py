"""Attributes the time of a training step to the calls that caused it, forward, backward and in the optimizer.

A call through the ops seam is a *frame*. Autograd numbers the nodes that it creates, so the nodes whose sequence number
lies between the numbers before and after a call are the backward pass of that call. Of nested calls the innermost one
owns a node. The engine runs one node after the other; a hook before each tells when, and a node's time lasts until the
next one starts. What neither a frame nor its nodes cover is left over.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import _get_sequence_nr

from autoresearch_cuda.probe.clocks import Clock, Mark

LEAF_NUMBER = 2**64 - 1  # of the nodes that accumulate into a parameter; they outlive the step's graph
# Their backward passes only describe the same memory anew, in less time than it takes to look.
METADATA_NODES = frozenset(
    f"{name}Backward0"
    for name in ("Alias", "Permute", "ReshapeAlias", "Squeeze", "T", "Transpose", "UnsafeView", "Unsqueeze", "View")
)


@dataclass(eq=False)
class Frame:
    """One call under measurement."""

    name: str
    parent: "Frame | None"
    start: Mark
    end: Mark = None


@dataclass
class Share:
    """What one name took in one step, in seconds: `own` without the named calls inside it, `whole` with them.

    within: {name: how many of the calls were made by a call of that name}; the others were made by the trainer itself.
    """

    calls: float = 0
    own_forward: float = 0.0
    own_backward: float = 0.0
    whole_forward: float = 0.0
    whole_backward: float = 0.0
    within: Counter[str] = field(default_factory=Counter)


@dataclass
class StepRecord:
    """One instrumented step: its time, each phase's and each name's share of it, in seconds."""

    seconds: float
    phases: dict[str, float]
    shares: dict[str, Share] = field(default_factory=dict)


class Recorder:
    """Measures between `begin` and `end`; outside of that everything wrapped runs as if it were not."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.active = False
        self._reset()

    def _reset(self) -> None:
        self._frame: Frame | None = None
        self._frames: list[Frame] = []
        self._hooked: set[int] = set()
        self._handles: list[Any] = []
        self._node_starts: list[tuple[Frame | None, Mark]] = []
        self._phases: list[tuple[str, Mark, Mark]] = []
        self._leads: list[tuple[Mark, Mark]] = []

    def begin(self) -> None:
        self._reset()
        self.active = True
        self._start = self.clock.mark()

    def end(self) -> StepRecord:
        """Stop measuring and add everything up."""
        end = self.clock.mark()
        self.active = False
        self.clock.wait()
        idle = sum(self.clock.seconds(*lead) for lead in self._leads)
        record = StepRecord(self.clock.seconds(self._start, end) - idle, defaultdict(float))
        for phase, start, stop in self._phases:
            record.phases[phase] += self.clock.seconds(start, stop)
        shares: dict[str, Share] = defaultdict(Share)
        for frame in self._frames:
            seconds = self.clock.seconds(frame.start, frame.end)
            shares[frame.name].calls += 1
            shares[frame.name].own_forward += seconds
            if frame.parent is not None:
                shares[frame.parent.name].own_forward -= seconds
                shares[frame.name].within[frame.parent.name] += 1
            if frame.name not in _names(frame.parent):
                shares[frame.name].whole_forward += seconds
        for (owner, start), (_, stop) in pairwise([*self._node_starts, (None, end)]):
            if owner is None:
                continue
            seconds = self.clock.seconds(start, stop)
            shares[owner.name].own_backward += seconds
            for name in _names(owner):
                shares[name].whole_backward += seconds
        record.shares = dict(shares)
        for handle in self._handles:
            handle.remove()
        self._reset()
        return record

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function as a frame."""
        with self.clock.pause():
            frame = Frame(name, self._frame, None)
            self._frame = frame
            self._frames.append(frame)
            first = _get_sequence_nr()
        frame.start = self.clock.mark()
        try:
            result = function(*args, **kwargs)
        finally:
            frame.end = self.clock.mark()
            self._frame = frame.parent
        with self.clock.pause():
            self._hook_nodes(frame, result if isinstance(result, tuple | list) else [result], first)
        return result

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with its time counted as that phase."""

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.active:
                return function(*args, **kwargs)
            self._lead()
            start = self.clock.mark()
            result = function(*args, **kwargs)
            self._phases.append((phase, start, self.clock.mark()))
            return result

        return run

    def backward_begins(self, loss: Tensor) -> None:
        """Announce the loss: count its backward pass as a phase, from the moment its gradient arrives to the engine's
        end, and note when nodes run that no frame owns, so that their time is not taken for another node's."""

        def started(gradient: Tensor) -> None:
            self._lead()
            start = self.clock.mark()

            def ended() -> None:
                end = self.clock.mark()
                self._phases.append(("backward", start, end))
                self._node_starts.append((None, end))

            torch.autograd.Variable._execution_engine.queue_callback(ended)

        with self.clock.pause():
            self._hook_nodes(None, [loss], 0)
            loss.register_hook(started)

    def _lead(self) -> None:
        lead = self.clock.lead()
        if lead is not None:
            self._leads.append(lead)

    def _hook_nodes(self, frame: Frame | None, outputs: Sequence[Any], first: int) -> None:
        """Let `frame` own the nodes behind `outputs` that were created from number `first` on and have no owner yet."""
        starts, mark = self._node_starts, self.clock.mark

        def starting(_: Any) -> None:
            starts.append((frame, mark()))

        for node, number in nodes_behind(outputs, first):
            if number == LEAF_NUMBER:
                if frame is None:
                    self._handles.append(node.register_prehook(starting))
            elif number not in self._hooked and node.name() not in METADATA_NODES:
                self._hooked.add(number)
                node.register_prehook(starting)


def nodes_behind(outputs: Sequence[Any], first: int) -> Iterator[tuple[Any, int]]:
    """(autograd node, its sequence number) of every node behind `outputs` that was created from number `first` on, and
    of the leaves that they lead to, each once."""
    waiting = [out.grad_fn for out in outputs if isinstance(out, Tensor) and out.grad_fn is not None]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        number = node._sequence_nr()
        key = node if number == LEAF_NUMBER else number
        if number < first or key in seen:
            continue
        seen.add(key)
        if number != LEAF_NUMBER:
            waiting.extend(next_node for next_node, _ in node.next_functions if next_node is not None)
        yield node, number


def _names(frame: Frame | None) -> set[str]:
    """Names of a frame and of all frames around it."""
    names = set()
    while frame is not None:
        names.add(frame.name)
        frame = frame.parent
    return names


@contextmanager
def watched(recorder: Recorder, model: nn.Module, kinds: dict[type, str]) -> Iterator[None]:
    """While open, calls of the model are the phase `forward`, and calls of its modules of the given classes are frames
    under the given names. Classes are matched exactly; the hooks are taken off again at the end."""
    originals = []
    for module in model.modules():
        name = kinds.get(type(module))
        if name is not None:
            originals.append(module)
            # An instance attribute shadows the class's forward and can simply be deleted.
            module.forward = _as_frame(recorder, name, module.forward)

    def after(module: nn.Module, args: Any, output: Tensor) -> None:
        if recorder.active and output.requires_grad:
            recorder.backward_begins(output)

    model.forward = recorder.timed("forward", model.forward)
    handle = model.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
        for module in (*originals, model):
            del module.forward


def _as_frame(recorder: Recorder, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return recorder.call(name, function, *args, **kwargs) if recorder.active else function(*args, **kwargs)

    return run
