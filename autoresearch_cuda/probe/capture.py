"""Captures workloads: the calls of each target as a training step really makes them, with samples of their inputs.

A workload is JSON: {"id", "target", "args": [spec, ...], "phase", "calls_per_step", "sample": {"file", "prefix"}}.
A spec is {"name", "kind": "array", "dtype", "shape", "strides" (in elements), "grad"} or
{"name", "kind": "scalar", "value"}.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from autoresearch_cuda.errors import ConfigError
from autoresearch_data.hashing import json_sha256

SAMPLE_BYTES = 4 << 20  # per argument; more rows of the same kind teach nothing new


@dataclass(frozen=True)
class TargetInfo:
    """What a target's contract says of its calls: the names of its parameters, in order, and its phase."""

    args: tuple[str, ...]
    phase: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "TargetInfo":
        """From {"args": [name, ...], "phase": "forward" | "optimizer"}. Raises ConfigError for anything else."""
        if value.get("phase") not in ("forward", "optimizer") or not isinstance(value.get("args"), list):
            raise ConfigError(f"not a description of a target: {dict(value)}")
        return cls(tuple(value["args"]), value["phase"])


@dataclass
class _Captured:
    specs: list[dict[str, Any]]
    calls: int = 0
    sample: dict[str, torch.Tensor] = field(default_factory=dict)


class Capture:
    """Collects the calls of one optimizer step. `first` collects what was called before that step began: a target
    whose result the trainer keeps (a mask) is called only then."""

    def __init__(self, targets: Mapping[str, TargetInfo]) -> None:
        self.targets = targets
        self.first: dict[str, dict[str, _Captured]] = {}
        self.step: dict[str, dict[str, _Captured]] = {}

    def record(self, target: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, in_step: bool) -> None:
        """Note one call, before it runs: a kernel may write into its arguments."""
        named = self._named(target, args, kwargs)
        specs = [argument_spec(name, value) for name, value in named.items()]
        found = (self.step if in_step else self.first).setdefault(target, {})
        key = workload_id(target, specs)
        if key not in found:
            tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
            found[key] = _Captured(specs, sample={name: leading_rows(value) for name, value in tensors.items()})
        found[key].calls += 1

    def write(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """Write `<target>.safetensors` per target into `folder`; returns {target: workloads}.

        Calls per optimizer step are those of the captured step: 0 for a target that was called only before it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        result: dict[str, list[dict[str, Any]]] = {}
        for target in self.targets:
            steady = target in self.step
            found = self.step.get(target) or self.first.get(target)
            if not found:
                continue
            file = f"{target}.safetensors"
            save_file({f"{key}/{name}": t for key, c in found.items() for name, t in c.sample.items()}, folder / file)
            result[target] = [
                {
                    "id": key,
                    "target": target,
                    "args": captured.specs,
                    "phase": self.targets[target].phase,
                    "calls_per_step": float(captured.calls if steady else 0),
                    "sample": {"file": file, "prefix": f"{key}/"},
                }
                for key, captured in found.items()
            ]
        return result

    def _named(self, target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = self.targets[target].args
        values = {**dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names) or set(values) != set(names):
            raise ConfigError(f"{target} was called with other arguments than its contract names: {sorted(values)}")
        return {name: values[name] for name in names}


def argument_spec(name: str, value: Any) -> dict[str, Any]:
    """One argument as JSON. Raises ConfigError for a value that is neither an array nor a plain scalar."""
    if isinstance(value, torch.Tensor):
        return {
            "name": name,
            "kind": "array",
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
            "strides": list(value.stride()),
            "grad": bool(value.requires_grad and torch.is_grad_enabled()),
        }
    if isinstance(value, bool | int | float | str):
        return {"name": name, "kind": "scalar", "value": value}
    raise ConfigError(f"argument {name} is a {type(value).__name__}; a workload holds arrays, numbers and strings only")


def workload_id(target: str, specs: list[dict[str, Any]]) -> str:
    return f"{target}-{json_sha256({'target': target, 'args': specs})[:8]}"


def leading_rows(tensor: torch.Tensor, limit: int = SAMPLE_BYTES) -> torch.Tensor:
    """A contiguous CPU copy of as many leading rows (first axis) as `limit` bytes hold, at least one."""
    tensor = tensor.detach()
    if tensor.dim() and tensor.numel():
        row = tensor[0].numel() * tensor.element_size()
        tensor = tensor[: max(1, limit // row)]
    return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
