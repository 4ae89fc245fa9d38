"""Captures workloads: the calls of each target as a training step really makes them, with samples of their inputs.

What is captured is told as `CapturedCall`s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import json_sha256
from autoresearch_common.workload import ScalarSpec, Spec
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.jobs.tracing import CapturedCall, TargetInfo

SAMPLE_BYTES = 4 << 20  # per argument; more rows of the same kind teach nothing new


@dataclass
class _Captured:
    specs: list[Spec]
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

    def spec(self, name: str, value: Any, info: TargetInfo) -> Spec:
        """One argument as JSON. Raises ConfigError for a value that is neither an array nor a plain scalar."""
        raise NotImplementedError

    def leading_rows(self, array: Any) -> Any:
        """A copy on the host of as many leading rows (first axis) as SAMPLE_BYTES hold, at least one."""
        raise NotImplementedError

    def save(self, arrays: dict[str, Any], path: Path) -> None:
        """Write what `leading_rows` gave as safetensors."""
        raise NotImplementedError

    def write(self, folder: Path) -> dict[str, list[CapturedCall]]:
        """Write `<target>.safetensors` per target into `folder`; returns {target: workloads}.

        Calls per optimizer step are those of the captured step: 0 for a target that was called only before it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        result: dict[str, list[CapturedCall]] = {}
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


def scalar_spec(name: str, value: Any) -> ScalarSpec:
    """A plain scalar as JSON. Raises ConfigError for anything else."""
    if isinstance(value, bool | int | float | str):
        return {"name": name, "kind": "scalar", "value": value}
    raise ConfigError(f"argument {name} is a {type(value).__name__}; a workload holds arrays, numbers and strings only")


def workload_id(target: str, specs: list[Spec]) -> str:
    return f"{target}-{json_sha256({'target': target, 'args': specs})[:8]}"
