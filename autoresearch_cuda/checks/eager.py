"""What the backward of one eager call gets and gives, seen by hooks of autograd.

Nothing is put between the call and its surroundings: another node there would change the order in which gradients of
several uses are added up, and with it their last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from autoresearch_cuda.checks.judge import Call


def watch(call: Call, arguments: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Have the cotangents and the gradients of a call that was just made written into `call`, once its backward runs.

    A gradient that comes in several parts is added up in float32 and rounded once.
    """
    edges: dict[tuple[Node | None, int], int] = {}
    for place, value in enumerate(arguments):
        if isinstance(value, Tensor) and value.requires_grad:
            edge = get_gradient_edge(value)
            first = edges.setdefault((edge.node, edge.output_nr), place)
            if first != place:
                call.same[place] = first
    call.wanted = tuple(edges.values())
    begins = {node for node, _ in edges}
    open_nodes: list[Node | None] = []
    for place, output in enumerate(outputs):
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(_cotangent(call, place))
            open_nodes.append(output.grad_fn)
    seen: set[Node] = set()
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen or node in begins:
            continue
        seen.add(node)
        places = [edges.get((following, number)) for following, number in node.next_functions]
        if any(place is not None for place in places):
            node.register_hook(_gradients(call, places))
        open_nodes += [following for following, _ in node.next_functions]


def _cotangent(call: Call, place: int) -> Callable[[Tensor], None]:
    def keep(value: Tensor) -> None:
        call.cotangents[place] = value.detach().clone()

    return keep


def _gradients(call: Call, places: list[int | None]) -> Callable[[Any, Any], None]:
    """places: of the arguments that a node's results belong to, None for those that stay within the kernel."""

    def keep(found: Sequence[Tensor | None], cotangents: object) -> None:
        for place, value in zip(places, found, strict=True):
            if place is None or value is None:
                continue
            before = call.gradients.get(place)
            dtype = call.arguments[place].dtype
            value = value.detach()
            call.gradients[place] = value.clone() if before is None else (before.float() + value.float()).to(dtype)

    return keep
