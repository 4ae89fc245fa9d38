"""Named ranges around every call of a target, forward and backward, for tools that record what a GPU does (NVTX).

A call is one range, `rms_norm`. Its backward is one range per autograd node, `rms_norm backward`: ranges have to nest,
and the engine runs nodes of other calls in between. Inside a compiled graph there are no ranges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import _get_sequence_nr

from autoresearch_cuda.probe.attribution import LEAF_NUMBER, nodes_behind
from autoresearch_trainer.probe.steps import backward_of

Push = Callable[[str], Any]
Pop = Callable[[], Any]


class Ranges:
    """A `wrap` for Ops.load. `push(name)` opens a range, `pop()` closes the innermost one."""

    def __init__(self, push: Push, pop: Pop) -> None:
        self._push, self._pop = push, pop
        self._depth = 0
        self._owned: set[int] = set()

    @classmethod
    def available(cls) -> Ranges | None:
        """Ranges of NVTX; None where there is none."""
        functions = nvtx_ranges()
        return cls(*functions) if functions else None

    def __call__(self, target: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_dynamo_compiling():
                return function(*args, **kwargs)
            first = _get_sequence_nr()
            self._push(target)
            self._depth += 1
            try:
                result = function(*args, **kwargs)
            finally:
                self._depth -= 1
                self._pop()
            self._mark_backward(backward_of(target), result, first)
            if not self._depth:
                self._owned.clear()
            return result

        return called

    def _mark_backward(self, name: str, result: Any, first: int) -> None:
        """The nodes that the call created and no call inside it owns."""

        def opens(_: Any) -> None:
            self._push(name)

        def closes(*_: Any) -> None:
            self._pop()

        outputs = result if isinstance(result, (tuple, list)) else [result]
        for node, number in nodes_behind(outputs, first):
            if number != LEAF_NUMBER and number not in self._owned:
                self._owned.add(number)
                node.register_prehook(opens)
                node.register_hook(closes)


def nvtx_ranges() -> tuple[Push, Pop] | None:
    """(push, pop) of NVTX: those of the package `nvtx`, else those of a CUDA build of PyTorch; None without either."""
    try:
        import nvtx
    except ImportError:
        return (torch.cuda.nvtx.range_push, torch.cuda.nvtx.range_pop) if torch.version.cuda else None
    return nvtx.push_range, nvtx.pop_range
