"""Notes the launches of Triton kernels instead of executing them, so that exactly what is launched can be compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from autoresearch_trainer.kernel_files import Kernel
from autoresearch_trainer.probe.native_code import definitions

_NOT_OPTIONS = ("grid", "warmup")


@dataclass(frozen=True)
class Launch:
    """One launch: the `triton.jit` function, its arguments by name, the compiler's options (num_warps, ...), its grid,
    and of a tuned kernel the configuration and the number of the call that it is one of the choices for."""

    function: Any
    arguments: dict[str, Any]
    options: dict[str, Any]
    grid: Any
    config: Any = None
    call: int | None = None

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def programs(self) -> tuple[int, ...]:
        """How many there are along each axis."""
        return tuple(self.grid(self.arguments) if callable(self.grid) else self.grid)

    def specialised(self, backend: Any) -> tuple[dict[str, str], dict[tuple[int], Any], dict[tuple[int], Any]]:
        """(type by parameter, constants, attributes) as Triton itself derives them from the arguments of a launch."""
        from triton.runtime.jit import native_specialize_impl

        signature: dict[str, str] = {}
        constants: dict[tuple[int], Any] = {}
        attributes: dict[tuple[int], Any] = {}
        for place, parameter in enumerate(self.function.params):
            value = self.arguments[parameter.name]
            if isinstance(value, FakeTensor):
                value = torch.empty(1, dtype=value.dtype)  # aligned, as what a GPU allocates
            if parameter.is_constexpr:
                signature[parameter.name], constants[(place,)] = "constexpr", value
                continue
            specialise, align = not parameter.do_not_specialize, not parameter.do_not_specialize_on_alignment
            kind, attribute = native_specialize_impl(type(backend), value, parameter.is_const, specialise, align)
            signature[parameter.name] = kind
            if kind == "constexpr":
                constants[(place,)] = value
            elif attribute:
                attributes[(place,)] = backend.parse_attr(attribute)
        return signature, constants, attributes


@dataclass
class Launches:
    """What was launched since `install`; tuned kernels once per declared configuration that fits the call."""

    found: list[Launch] = field(default_factory=list)
    _calls: int = 0
    _tuned: tuple[Any, int | None] = (None, None)

    def install(self) -> None:
        """Every launch in this process is noted from now on, and does nothing. Triton has to be imported."""
        jit, tuner = sys.modules["triton.runtime.jit"], sys.modules["triton.runtime.autotuner"]
        launches = self

        def run(function: Any, *args: Any, **kwargs: Any) -> None:
            launches._note(function, args, kwargs)

        def run_tuned(tuned: Any, *args: Any, **kwargs: Any) -> None:
            tuned.nargs = dict(zip(tuned.arg_names, args, strict=False))
            configs = tuned.prune_configs(kwargs)
            launches._calls += 1
            for config in configs:
                launches._tuned = config, launches._calls
                tuned.fn.run(*args, **kwargs, **config.all_kwargs())
            launches._tuned = None, None

        jit.JITFunction.run, tuner.Autotuner.run = run, run_tuned
        kit = sys.modules.get("autoresearch_cuda.triton_kit")
        if kit is not None:
            kit.let_launches_be_noted()

    def _note(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = [parameter.name for parameter in function.params]
        arguments = {parameter.name: parameter.default for parameter in function.params if parameter.has_default}
        arguments |= dict(zip(names, args, strict=False))
        arguments |= {name: value for name, value in kwargs.items() if name in names}
        options = {
            name: value
            for name, value in kwargs.items()
            if name not in names and name not in _NOT_OPTIONS and value is not None
        }
        self.found.append(Launch(function, arguments, options, kwargs["grid"], *self._tuned))


def call_both_ways(function: Kernel, arguments: tuple[Any, ...], differentiable: list[bool]) -> None:
    """Call the kernel, and its backward with contiguous cotangents, on tensors whose values do not matter."""
    leaves = []
    for argument, wanted in zip(arguments, differentiable, strict=True):
        if wanted and isinstance(argument, torch.Tensor):
            leaves.append(argument.requires_grad_())
    outputs = function(*arguments)
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    reached = [output for output in outputs if output.requires_grad]
    if leaves and reached:
        torch.autograd.grad(reached, leaves, [torch.empty_like(y) for y in reached], allow_unused=True)


def example_calls(function: Kernel) -> Callable[[], list[tuple[Any, ...]]] | None:
    """`compile_cases` of the file that defines the kernel; None where it has none."""
    return definitions(function).get("compile_cases")
