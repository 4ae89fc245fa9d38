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
        # Not "DEF": an exported copy of the same kernel may have been loaded in this process, and made them already.
        self._library = torch.library.Library(namespace, "FRAGMENT")

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
        output, and whose others are named after arguments of this operator, tensors before constants; these are saved
        for it. It returns the gradients of the operator's arguments in their order; what it leaves out gets none.
        Or, in the place of that: `save(ctx, inputs, output)` and `backward(ctx, *cotangents)`.

        Raises KeyError for a parameter that is no argument, ValueError for a constant before a tensor.
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


def keep_for_backward(ctx: Any, *results: Tensor) -> None:
    """For `save`: results that backward alone needs. No gradient is asked of them, and uncompiled training makes no
    zeros of their size to hand backward as one."""
    ctx.mark_non_differentiable(*results)
    ctx.set_materialize_grads(False)


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
    arguments = operator._schema.arguments
    places = {argument.name: place for place, argument in enumerate(arguments)}
    wanted = [places[name] for name in _parameters(gradient)[len(operator._schema.returns) :]]
    tensors = [place for place in wanted if isinstance(arguments[place].type, torch.TensorType)]
    constants = wanted[len(tensors) :]
    if wanted != tensors + constants or set(tensors) & set(constants):
        raise ValueError(f"{operator}: the gradient's parameters must be cotangents, then tensors, then constants")
    nothing = (None,) * len(arguments)

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*[inputs[place] for place in tensors])
        ctx.constants = [inputs[place] for place in constants]

    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        found = gradient(*cotangents, *ctx.saved_tensors, *ctx.constants)
        found = (found,) if isinstance(found, Tensor) else tuple(found)
        return found + nothing[len(found) :]

    return save, backward


def _parameters(function: Callable[..., Any]) -> list[str]:
    if isinstance(function, OpOverload):
        return [argument.name for argument in function._schema.arguments]
    return list(inspect.signature(function).parameters)
