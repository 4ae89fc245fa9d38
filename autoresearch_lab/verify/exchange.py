"""Between the cases and the process that runs them: inputs as files, answers back as files, every death as words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autoresearch_lab.catalog import Contract, Kernel
from autoresearch_lab.engine import Engine
from autoresearch_lab.sandbox.arrays import read_arrays, write_arrays
from autoresearch_lab.sandbox.confine import discard_scratch
from autoresearch_lab.sandbox.limits import GIB, Limits
from autoresearch_lab.sandbox.parent import JobFailed
from autoresearch_lab.sandbox.protocol import not_enforced, printable
from autoresearch_lab.verify.cases import Case, CaseStep, Contents

INPUTS, OUTPUTS = "inputs.safetensors", "outputs.safetensors"
# Address space beyond the data's own: PyTorch, its threads' arenas, compilers.
SPARE_MEMORY = 24 * GIB
# A kernel may need temporaries of several times its arguments' size.
MEMORY_PER_BYTE = 64
MOST_PROCESSES = 512
# A process that answers case after case may take this many times the time that it may be quiet.
LONGEST_FACTOR = 6
# Classes by which an engine says that the kernel's file is no use.
_KERNEL_ERRORS = ("KernelError", "KernelChanged", "NativeError", "CompileFailed", "CompilerMissing")


@dataclass(frozen=True)
class Failure:
    """How a process ended without an answer. kind as in `JobFailed`, or "kernel" for one that did not load."""

    kind: str
    message: str
    stage: str
    detail: str = ""


@dataclass
class Answers:
    """What one process sent back: per case its description, all arrays, and how far it came."""

    description: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    failure: Failure | None = None
    unenforced: list[str] = field(default_factory=list)
    reached: int = 0

    def case(self, name: str) -> dict[str, Any]:
        """The description of one case; empty where the process did not come that far."""
        return self._by_id.get(name, {})

    def array(self, case: Case, step: int, name: str) -> np.ndarray | None:
        """A returned array in its storage dtype; None where there is none."""
        return self.arrays.get(f"{case.id}/{step}/{name}")

    @property
    def _by_id(self) -> dict[str, Any]:
        if "_index" not in self.__dict__:
            self.__dict__["_index"] = {case["id"]: case for case in self.description.get("cases", [])}
        return self.__dict__["_index"]


def write_inputs(folder: Path, cases: Iterable[Case]) -> tuple[Path, int]:
    """Write the contents of all cases once; returns the file and the number of bytes of arrays in it."""
    arrays: dict[str, np.ndarray] = {}
    for case in cases:
        for contents in [each for step in case.steps for each in (step.contents, *step.shadows)]:
            prefix = _prefix(contents)
            arrays |= {f"{prefix}{name}": array for name, array in contents.arrays.items()}
            for place, cotangent in enumerate(contents.cotangents or ()):
                arrays[f"{prefix}ct/{place}"] = cotangent
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / INPUTS, arrays)
    return folder / INPUTS, sum(array.nbytes for array in arrays.values())


def ask(
    engine: Engine,
    kernel: Kernel,
    contract: Contract,
    cases: list[Case],
    inputs: Path,
    *,
    run_dir: Path,
    seconds: float,
    data_bytes: int,
    every_step: bool = True,
    noop: bool = False,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> Answers:
    """Have `kernel` compute the cases in a confined process of its own. `seconds`: how long it may be quiet.

    every_step: make the steps that only repeat, too; where not, as for the baseline, the shadows instead. Whatever the
    process does, this returns: a failure is part of the answer.
    """
    answers = Answers()
    stage = "start"

    def listen(message: dict[str, Any]) -> None:
        nonlocal stage
        if "unenforced" in message:
            answers.unenforced = not_enforced(message)
        elif message.get("stage") == "case":
            stage = printable(f"case {str(message.get('case'))[:80]}")
            answers.reached += 1
        elif "stage" in message:
            stage = printable(str(message["stage"])[:80])
        if on_progress is not None:
            on_progress({"stage": "calls", "done": min(answers.reached, len(cases)), "total": len(cases)})

    outputs = run_dir / OUTPUTS
    outputs.unlink(missing_ok=True)
    args = {
        "kernel": kernel.plain(),
        "inputs": str(inputs),
        "noop": noop,
        "cases": [_plain(case, contract, every_step) for case in cases],
    }
    try:
        limits = _limits(engine, kernel, inputs, seconds, data_bytes)
        answers.description = printable(engine.run("call", args, run_dir=run_dir, limits=limits, on_progress=listen))
        answers.arrays = read_arrays(outputs, most_bytes=(64 << 20) + 16 * data_bytes)
        _check_shape_of(answers.description)
    except JobFailed as failed:
        kind = "kernel" if failed.exception in _KERNEL_ERRORS else failed.kind
        message, detail = printable(str(failed).removeprefix("call: ")), printable(failed.detail)
        answers.failure = Failure(kind, message, stage, detail)
    except (ValueError, KeyError, TypeError) as error:
        answers.description = {}
        answers.failure = Failure("protocol", f"the answer cannot be read: {error}", stage)
    return answers


def discard(run_dir: Path) -> None:
    """Remove what a run leaves behind in bulk: arrays, caches and temporary files; logs and the job file stay."""
    for name in (INPUTS, OUTPUTS):
        (run_dir / name).unlink(missing_ok=True)
    discard_scratch(run_dir)


def _limits(engine: Engine, kernel: Kernel, inputs: Path, seconds: float, data_bytes: int) -> Limits:
    return Limits(
        seconds=LONGEST_FACTOR * seconds,
        quiet_seconds=seconds,
        cpu_seconds=int(16 * LONGEST_FACTOR * seconds) + 60,
        # A GPU's driver reserves address space by the hundred GiB.
        memory_bytes=SPARE_MEMORY + MEMORY_PER_BYTE * data_bytes if engine.device == "cpu" else None,
        file_bytes=(256 << 20) + 16 * data_bytes,
        processes=MOST_PROCESSES,
        confined=True,
        readable=(str(kernel.path.resolve().parent), str(inputs)),
        gpu=engine.job_device == "cuda",
    )


def _plain(case: Case, contract: Contract, every_step: bool) -> dict[str, Any]:
    """A case as the engine takes it. Steps that are left out leave a null, so that numbers stay the same."""
    steps: list[dict[str, Any] | None] = []
    for step in case.steps:
        wanted = every_step or step.judged
        steps.append(_plain_step(case, step, step.contents) if wanted else None)
    if not every_step:
        steps += [_plain_step(case, step, contents) for step in case.steps for contents in step.shadows]
    return {
        "id": case.id,
        "args": case.specs,
        "grad": list(case.grad),
        "inplace": [argument.name for argument in contract.args if argument.inplace],
        "grad_mode": case.grad_mode,
        "spied": case.spied,
        "steps": steps,
    }


def _plain_step(case: Case, step: CaseStep, contents: Contents) -> dict[str, Any]:
    prefix = _prefix(contents)
    return {
        "contents": prefix,
        "scalars": dict(contents.scalars),
        "cotangents": f"{prefix}ct/" if contents.cotangents is not None and case.grad else None,
        "layout": step.layout,
        "again": step.again,
        "pattern": step.pattern,
    }


def shadow_number(case: Case, step: int, shadow: int) -> int:
    """The number under which the baseline's process ran a step's shadow: behind the steps themselves."""
    return len(case.steps) + sum(len(earlier.shadows) for earlier in case.steps[:step]) + shadow


def _prefix(contents: Any) -> str:
    """Steps with the same contents share their arrays."""
    return f"{id(contents)}/"


def _check_shape_of(description: dict[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError where the answer lacks what the checks read."""
    for case in description["cases"]:
        for step in case["steps"]:
            if step is not None:
                for form in step["outputs"]:
                    str(form["type"]), bool(form["plain"])
                list(step["changed"]), dict(step["grads"])
    list(description["loaded"]), list(description["changed"]), list(description["native"])
    int(description["noop"]["calls"])
    list(description.get("configurations", []))
