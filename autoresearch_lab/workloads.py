"""Captured workloads on disk: one immutable set per target, named by the hash of its content.

    results/kernel_lab/workloads/<first 16 digits of the hash>/
        <target>.json           the calls: shapes, dtypes, strides, scalars, gradients, how often
        <target>.safetensors    samples of their real inputs

The hash covers calls and samples and nothing else, so that capturing the same training again gives the same set.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, ValidationError

from autoresearch_common.arrays import read_arrays
from autoresearch_common.files import write_atomic
from autoresearch_common.hashing import file_sha256, json_sha256
from autoresearch_common.reading import BadFile, first_error, read_json
from autoresearch_common.workload import CapturedWorkload, Workload, arrays, checked
from autoresearch_lab.errors import LabError
from autoresearch_lab.jsonfile import StrictModel
from autoresearch_lab.paths import Root

SCHEMA = 1


class WorkloadFile(StrictModel):
    """The content of a set's JSON file."""

    schema_: Literal[1] = Field(alias="schema")
    target: str
    engine: str
    preset: str
    data: dict[str, str]
    workloads: list[Annotated[CapturedWorkload, AfterValidator(checked)]] = Field(min_length=1)


@dataclass(frozen=True)
class WorkloadSet:
    """All captured calls of one target. `workloads` are plain JSON, as oracles and jobs take them; `path` is the set's
    JSON file; `data` is {"name", "fingerprint"} of the dataset that was trained on."""

    target: str
    engine: str
    preset: str
    data: dict[str, str]
    workloads: list[CapturedWorkload]
    sample_sha256: str
    path: Path

    @cached_property
    def sha256(self) -> str:
        return content_hash(self.workloads, self.sample_sha256)

    @property
    def sample_path(self) -> Path:
        return self.path.with_suffix(".safetensors")

    def record_field(self, profile: str | None = None) -> dict[str, object]:
        """As the `workloads` field of a ledger record; `data` names the dataset and its fingerprint, None where there
        was none."""
        return {"sha256": self.sha256, "count": len(self.workloads), "profile": profile, "data": self.data or None}

    @cached_property
    def samples(self) -> dict[str, np.ndarray]:
        """Every sampled array by its full name, in its storage dtype.

        Raises:
            LabError: the file is missing or damaged.
        """
        try:
            return read_arrays(self.sample_path)
        except ValueError as error:
            raise LabError(f"workloads: {self.sample_path.parent}: {error}") from None

    def sample(self, workload: Workload) -> dict[str, np.ndarray]:
        """{argument: leading rows of its real values} of one workload; empty where none were kept."""
        if workload["sample"] is None:
            return {}
        prefix = workload["sample"]["prefix"]
        return {name.removeprefix(prefix): a for name, a in self.samples.items() if name.startswith(prefix)}

    def inputs(self, workload: Workload, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Whole array arguments with real values, contiguous, in the storage dtype.

        Where only leading rows were kept, rows are drawn from them with replacement; arguments with the same number of
        rows get the same draw, so that what belongs together (a row of logits and its target) stays together.
        """
        sample = self.sample(workload)
        shapes = {spec["name"]: spec["shape"] for spec in arrays(workload)}
        kept: dict[int, int] = {}
        for name, shape in shapes.items():
            if shape:
                kept[shape[0]] = min(kept.get(shape[0], shape[0]), len(sample[name]))
        draws = {rows: rng.integers(have, size=rows) for rows, have in kept.items() if have < rows}
        return {
            name: sample[name][draws[shape[0]]] if shape and shape[0] in draws else sample[name].copy()
            for name, shape in shapes.items()
        }


def content_hash(workloads: list[CapturedWorkload], sample_sha256: str) -> str:
    """What identifies a set: its calls and the bytes of its samples."""
    return json_sha256({"workloads": workloads, "sample_sha256": sample_sha256})


def save(
    root: Root,
    target: str,
    *,
    engine: str,
    preset: str,
    data: dict[str, str],
    workloads: list[CapturedWorkload],
    sample: Path,
) -> WorkloadSet:
    """Put a captured set and its sample file (which is moved) in their place under the root, and read it back."""
    sample_sha256 = file_sha256(sample)
    digest = content_hash(workloads, sample_sha256)
    path = root.workloads / digest[:16] / f"{target}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(sample, path.with_suffix(".safetensors"))
    content = {
        "schema": SCHEMA,
        "target": target,
        "engine": engine,
        "preset": preset,
        "data": data,
        "workloads": workloads,
    }
    write_atomic(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return load(path, expected=digest)


def load(path: Path, expected: str | None = None) -> WorkloadSet:
    """Read and validate a set; with `expected`, refuse one whose content hash differs.

    Raises:
        LabError: a file is missing, is not a set of workloads, or was changed.
    """
    path = Path(path)
    try:
        content = WorkloadFile.model_validate(read_json(path))
        sample_sha256 = file_sha256(path.with_suffix(".safetensors"))
    except OSError as error:
        raise LabError(f"workloads: cannot read {error.filename or path}: {error.strerror}") from None
    except ValidationError as error:
        raise LabError(f"workloads: {path} is not a set of workloads: {first_error(error)}") from None
    except BadFile as error:
        raise LabError(f"workloads: {error}") from None
    found = WorkloadSet(
        target=content.target,
        engine=content.engine,
        preset=content.preset,
        data=content.data,
        workloads=content.workloads,
        sample_sha256=sample_sha256,
        path=path,
    )
    if expected is not None and found.sha256 != expected:
        raise LabError(f"workloads: {path} or its samples were changed after they were captured; run profile again")
    return found
