"""Captures workloads: the calls of each target as a training step really makes them, with samples of their inputs.

A workload is JSON: {"id", "target", "args": [spec, ...], "phase", "calls_per_step", "sample": {"file", "prefix"}}.
A spec is {"name", "kind": "array", "dtype", "shape", "strides" (in elements), "grad"} or
{"name", "kind": "scalar", "value"}.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import json_sha256
from autoresearch_trainer.errors import ConfigError

SAMPLE_BYTES = 4 << 20  # per argument; more rows of the same kind teach nothing new


@dataclass(frozen=True)
class TargetInfo:
    """What a target's contract says of its calls: the names of its parameters, in order, its phase, and which of them
    get gradients or are scalars (an engine whose arrays do not tell asks here)."""

    args: tuple[str, ...]
    phase: str
    grads: frozenset[str] = frozenset()
    scalars: frozenset[str] = frozenset()

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "TargetInfo":
        """From {"args": [name, ...], "phase": "forward" | "optimizer"} with, or without, "grads" and "scalars" (names).

        Raises ConfigError for anything else.
        """
        if value.get("phase") not in ("forward", "optimizer") or not isinstance(value.get("args"), list):
            raise ConfigError(f"not a description of a target: {dict(value)}")
        grads, scalars = (frozenset(value.get(key, ())) for key in ("grads", "scalars"))
        return cls(tuple(value["args"]), value["phase"], grads, scalars)


@dataclass
class _Captured:
    specs: list[dict[str, Any]]
    calls: int = 0
    sample: dict[str, Any] = field(default_factory=dict)


class CaptureBase:
    """Collects the calls of one optimizer step; an engine's subclass describes, copies and writes its arrays.

    `first` collects what was called before that step began: a target whose result the trainer keeps (a mask) is called
    only then.
    """

    def __init__(self, targets: Mapping[str, TargetInfo]) -> None:
        self.targets = targets
        self.first: dict[str, dict[str, _Captured]] = {}
        self.step: dict[str, dict[str, _Captured]] = {}

    def record(self, target: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, in_step: bool) -> None:
        """Note one call, before it runs: a kernel may write into its arguments."""
        named = self._named(target, args, kwargs)
        info = self.targets[target]
        specs = [self.spec(name, value, info) for name, value in named.items()]
        found = (self.step if in_step else self.first).setdefault(target, {})
        key = workload_id(target, specs)
        if key not in found:
            arrays = [spec["name"] for spec in specs if spec["kind"] == "array"]
            found[key] = _Captured(specs, sample={name: self.leading_rows(named[name]) for name in arrays})
        found[key].calls += 1

    def spec(self, name: str, value: Any, info: TargetInfo) -> dict[str, Any]:
        """One argument as JSON. Raises ConfigError for a value that is neither an array nor a plain scalar."""
        raise NotImplementedError

    def leading_rows(self, array: Any) -> Any:
        """A copy on the host of as many leading rows (first axis) as SAMPLE_BYTES hold, at least one."""
        raise NotImplementedError

    def save(self, arrays: dict[str, Any], path: Path) -> None:
        """Write what `leading_rows` gave as safetensors."""
        raise NotImplementedError

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
            self.save({f"{key}/{name}": t for key, c in found.items() for name, t in c.sample.items()}, folder / file)
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


def scalar_spec(name: str, value: Any) -> dict[str, Any]:
    """A plain scalar as JSON. Raises ConfigError for anything else."""
    if isinstance(value, bool | int | float | str):
        return {"name": name, "kind": "scalar", "value": value}
    raise ConfigError(f"argument {name} is a {type(value).__name__}; a workload holds arrays, numbers and strings only")


def workload_id(target: str, specs: list[dict[str, Any]]) -> str:
    return f"{target}-{json_sha256({'target': target, 'args': specs})[:8]}"
