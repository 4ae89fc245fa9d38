"""What Triton kernel files share: operators, tuning over declared configurations, and where the kernels can run.

Triton kernels run on a GPU, or, with TRITON_INTERPRET=1 in the environment before Triton is imported, on CPU tensors
through Triton's interpreter: slow, and good for right or wrong only. `triton_fused.py` of rms_norm is the model of such
a file; docs/cuda.md describes the conventions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import triton

from autoresearch_common.hashing import kernel_hash
from autoresearch_cuda.operators import Operators
from autoresearch_trainer.errors import KernelError

# Dispatch key of PyTorch -> kind of device; AMD's GPUs go by the name CUDA there, too.
_DEVICES = ("CUDA", "CPU")
MOST_COLUMNS = 16384
WITHOUT_GPU = 4  # programs of a persistent launch where there are no processors to count
# What one configuration may be measured for. Verification meets a kernel in some twenty sizes, each with a handful of
# configurations. They differ by more than so short a look is wrong by, or it does not matter which is taken.
WARM_UP_MS, MEASURED_MS = 3, 15
# Operators outlive the module that defined them: loading the same content again finds them here.
_operators: dict[str, TritonOperators] = {}
_tuners: list[Any] = []
# Of a launch: the number of programs, from its constants by name.
Grid = Callable[[Mapping[str, int]], tuple[int]]
_launches_noted = False


def interpreted() -> bool:
    """Whether kernels of this process are run by Triton's interpreter; decided when Triton is imported."""
    return bool(triton.knobs.runtime.interpret)


class TritonOperators(Operators):
    """Operators whose functions launch Triton kernels."""

    def guarded(self, name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        """`compute` gets GPU tensors, or CPU tensors under the interpreter; KernelError is raised for others."""

        def run(*args: Any) -> Any:
            if not _runs(args):
                raise KernelError(
                    f"{name}: a Triton kernel needs a GPU; on the CPU it runs through the interpreter only "
                    "(TRITON_INTERPRET=1)"
                )
            return compute(*args)

        return run


def operators(kernel_file: str | Path) -> TritonOperators:
    """The operators of the kernel file that calls this with its `__file__`; one set per content."""
    namespace = f"kernel_{kernel_hash(Path(kernel_file))[:16]}"
    if namespace not in _operators:
        _operators[namespace] = TritonOperators(namespace, _DEVICES)
    return _operators[namespace]


def tuned(
    configs: Sequence[triton.Config], key: Sequence[str], *, prune: Callable[..., list[Any]] | None = None, **more: Any
) -> Callable[[Any], Any]:
    """Decorator of a `triton.jit` kernel: on a GPU the fastest of `configs` is taken, once per value of the arguments
    named in `key` and per dtype; under the interpreter always the first.

    prune: (configs, named arguments, **keyword arguments) -> those that can be used for this call, at least one.
    Configurations that `on` reserves for another architecture have been left out before.
    more: `restore_value` or `reset_to_zero` of `triton.autotune`, for kernels that read what they write.
    """
    declared = list(configs[:1] if interpreted() else configs)
    left = len(declared)

    def fitting(found: list[triton.Config], arguments: Mapping[str, Any], **sizes: Any) -> list[triton.Config]:
        nonlocal left
        if not _launches_noted:
            arch = _arch(arguments)
            found = [config for config in found if suits(config, arch)]
        found = prune(found, arguments, **sizes) if prune else found
        left = len(found)
        return found

    def measure(call: Callable[[], Any], quantiles: Sequence[float]) -> Any:
        # Triton 3.6 measures a single configuration, too.
        if left == 1:
            return [0.0] * len(quantiles)
        return triton.testing.do_bench(call, warmup=WARM_UP_MS, rep=MEASURED_MS, quantiles=quantiles)

    def decorate(kernel: Any) -> Any:
        pruning = None if interpreted() else {"early_config_prune": fitting}
        tuner = triton.autotune(
            configs=declared, key=list(key), prune_configs_by=pruning, do_bench=measure, **more
        )(kernel)  # fmt: skip
        _tuners.append(tuner)
        return tuner

    return decorate


def on(configs: Sequence[triton.Config], only: Sequence[str] = (), never: Sequence[str] = ()) -> list[triton.Config]:
    """The same configurations, reserved for the architectures in `only` ("sm_90"), or kept off those in `never`."""
    for config in configs:
        config.architectures = tuple(only), tuple(never)
    return list(configs)


def suits(config: triton.Config, arch: str) -> bool:
    """Whether `on` lets the configuration be used on that architecture."""
    only, never = getattr(config, "architectures", ((), ()))
    return arch not in never and (not only or arch in only)


def _arch(arguments: Mapping[str, Any]) -> str:
    """Of the GPU that the first tensor lies on, as compilers name it; "" where it lies elsewhere."""
    tensor = next((value for value in arguments.values() if isinstance(value, torch.Tensor)), None)
    if tensor is None or tensor.device.type != "cuda":
        return ""
    if torch.version.hip is not None:
        return torch.cuda.get_device_properties(tensor.device).gcnArchName.partition(":")[0]
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return f"sm_{major}{minor}"


def let_launches_be_noted() -> None:
    """From now on launches in this process are noted and not executed (`probe.launches`), so CPU tensors will do."""
    global _launches_noted
    _launches_noted = True


def chosen() -> list[dict[str, Any]]:
    """The configurations that kernels of this process ran with, as evidence: [{"kernel", "key" (values of the key
    arguments, then dtypes), "config": {name: value, "num_warps", "num_stages"}}]."""
    found = []
    for tuner in _tuners:
        known = dict(tuner.cache)
        best = getattr(tuner, "best_config", None)
        if not known and best is not None:
            known = {(): best}
        for key, config in known.items():
            entry = {"kernel": tuner.base_fn.__name__, "key": [str(value) for value in key], "config": plain(config)}
            if entry not in found:
                found.append(entry)
    return found


def plain(config: triton.Config) -> dict[str, Any]:
    """A configuration as JSON."""
    return {**config.kwargs, "num_warps": config.num_warps, "num_stages": config.num_stages}


def columns(width: int) -> int:
    """Number of columns of a tile that holds rows of `width` elements: the next power of two.

    Raises NotImplementedError for rows that are too wide to be held whole.
    """
    if width > MOST_COLUMNS:
        raise NotImplementedError(f"rows of {width} elements; at most {MOST_COLUMNS}")
    return triton.next_power_of_2(width)


def blocks(count: int, size: str = "TILE") -> Grid:
    """The grid of a kernel whose programs take so many of `count` elements as the constant of that name says."""
    return lambda meta: (triton.cdiv(count, meta[size]),)


def tile_grid(rows: int) -> Grid:
    """The grid of a kernel whose programs hold TILE // COLUMNS rows each, at least one."""
    return lambda meta: (triton.cdiv(rows, max(1, meta["TILE"] // meta["COLUMNS"])),)


def at_most(grid: Grid, programs: int) -> Grid:
    """The same grid for programs that stay and take one tile after the other: no more of them than that."""
    return lambda meta: (min(programs, grid(meta)[0]),)


def resident(x: torch.Tensor, per_processor: int) -> int:
    """Number of programs of a launch whose programs stay and take one tile after the other, on the GPU of x."""
    if not x.is_cuda:
        return WITHOUT_GPU
    return per_processor * torch.cuda.get_device_properties(x.device).multi_processor_count


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """x (..., width) as a matrix (rows, width) whose last axis is dense: a view where the strides allow it."""
    matrix = x.reshape(-1, x.shape[-1])
    return matrix if matrix.stride(-1) == 1 or matrix.shape[-1] == 1 else matrix.contiguous()


def _runs(args: Sequence[Any]) -> bool:
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    return interpreted() or _launches_noted or not tensors or any(tensor.device.type != "cpu" for tensor in tensors)
