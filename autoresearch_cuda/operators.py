"""PyTorch operators of one kernel file: one node each in a `torch.compile` graph, differentiable where asked.

The functions behind them may be C++ through ctypes (`native`) or Triton (`triton_kit`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch


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
        save: Callable[..., None] | None = None,
        backward: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """Define an operator and return it as a callable that torch.compile keeps as one node.

        `schema` is torch.library's, such as "forward(Tensor x, float eps) -> Tensor"; `compute` runs on real tensors,
        `fake` gives outputs of the right shape, dtype and strides. `save(ctx, inputs, output)` and
        `backward(ctx, *gradients)` make it differentiable. An operator that exists already is returned as it is.
        """
        name = schema.partition("(")[0]
        space = getattr(torch.ops, self.namespace)
        if not hasattr(space, name):
            qualified = f"{self.namespace}::{name}"
            self._library.define(schema)
            for device in self.devices:
                self._library.impl(name, compute, device)
            torch.library.register_fake(qualified, fake, lib=self._library)
            if backward is not None:
                torch.library.register_autograd(qualified, backward, setup_context=save, lib=self._library)
        return getattr(space, name).default
