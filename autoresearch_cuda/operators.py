"""PyTorch operators of one kernel file: one node each in a `torch.compile` graph, differentiable where asked.

The functions behind them may be C++ through ctypes (`native`) or Triton (`triton_kit`).
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload


class Operators:
    """Operators in a namespace of their own, for tensors on the devices whose dispatch keys are named ("CPU", "CUDA").

    The namespace is unique to a kernel's content, so that two versions can live in one process.
    """

    def __init__(self, namespace: str, devices: Sequence[str]) -> None:
        self.namespace = namespace
        self.devices = tuple(devices)
        self._library = torch.library.Library(namespace, "DEF")

    def define(
        self,
        schema: str,
        compute: Callable[..., Any],
        fake: Callable[..., Any],
        *,
        gradient: Callable[..., Any] | None = None,
        save: Callable[..., None] | None = None,
        backward: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """Define an operator and return it as a callable that torch.compile keeps as one node.

        `schema` is torch.library's, such as "forward(Tensor x, float eps) -> Tensor"; `compute` runs on real tensors,
        `fake` gives outputs of the right shape, dtype and strides. One that exists already is returned as it is.

        gradient: makes it differentiable: a function or operator whose first parameters are the cotangents, one per
        output, and whose others are named after arguments of this operator, which are saved for it. It returns the
        gradients of the operator's arguments in their order; those that it leaves out at the end get none.
        Or, in the place of that: `save(ctx, inputs, output)` and `backward(ctx, *cotangents)`.
        """
        name = schema.partition("(")[0]
        space = getattr(torch.ops, self.namespace)
        if not hasattr(space, name):
            qualified = f"{self.namespace}::{name}"
            self._library.define(schema)
            for device in self.devices:
                self._library.impl(name, self.guarded(name, compute), device)
            torch.library.register_fake(qualified, fake, lib=self._library)
            if gradient is not None:
                save, backward = _autograd(getattr(space, name).default, gradient)
            if backward is not None:
                torch.library.register_autograd(qualified, backward, setup_context=save, lib=self._library)
        return getattr(space, name).default

    def guarded(self, name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        """What an operator of that name runs; a subclass may look at its arguments first."""
        return compute


def write_back(states: Sequence[Tensor], results: Sequence[Tensor]) -> None:
    """Store in-place results that were worked out in contiguous copies of strided arrays; others are there already."""
    for state, result in zip(states, results, strict=True):
        if result is not state:
            state.copy_(result)


def alike(x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Both as contiguous arrays. Raises TypeError where they differ in shape or dtype."""
    if x.shape != x0.shape or x.dtype != x0.dtype:
        raise TypeError(f"x {tuple(x.shape)} {x.dtype} and x0 {tuple(x0.shape)} {x0.dtype} differ")
    return x.contiguous(), x0.contiguous()


def class_numbers(targets: Tensor, rows: Tensor) -> Tensor:
    """The targets (N,) of a loss as a contiguous array. Raises TypeError unless they are integers, one for each row."""
    if targets.dtype not in (torch.int64, torch.int32) or targets.shape != rows.shape[:1]:
        raise TypeError(f"targets must be {rows.shape[0]} integers, not {tuple(targets.shape)} {targets.dtype}")
    return targets.contiguous()


def _autograd(
    operator: OpOverload, gradient: Callable[..., Any]
) -> tuple[Callable[..., None], Callable[..., tuple[Tensor | None, ...]]]:
    """`save` and `backward` for an operator whose gradient is computed by that function; see Operators.define."""
    arguments = [argument.name for argument in operator._schema.arguments]
    wanted = _parameters(gradient)[len(operator._schema.returns) :]
    places = [arguments.index(name) for name in wanted]

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        chosen = [inputs[place] for place in places]
        ctx.save_for_backward(*(value for value in chosen if isinstance(value, Tensor)))
        ctx.others = [None if isinstance(value, Tensor) else value for value in chosen]

    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        tensors = iter(ctx.saved_tensors)
        found = gradient(*cotangents, *(next(tensors) if value is None else value for value in ctx.others))
        given = tuple(found) if isinstance(found, tuple | list) else (found,)
        return given + (None,) * (len(arguments) - len(given))

    return save, backward


def _parameters(function: Callable[..., Any]) -> list[str]:
    if isinstance(function, OpOverload):
        return [argument.name for argument in function._schema.arguments]
    return list(inspect.signature(function).parameters)
