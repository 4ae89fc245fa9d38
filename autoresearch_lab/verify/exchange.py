"""Between the cases and the process that runs them: inputs as files, answers back as files, every death as words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from autoresearch_common.arrays import read_arrays, write_arrays
from autoresearch_lab.catalog import Contract, Kernel
from autoresearch_lab.engine import Engine
from autoresearch_lab.sandbox.confine import discard_scratch
from autoresearch_lab.sandbox.limits import GIB, Limits
from autoresearch_lab.sandbox.parent import JobFailed, Kind
from autoresearch_lab.sandbox.protocol import not_enforced
from autoresearch_lab.verify.cases import Case, CaseStep, Contents, elements
from autoresearch_trainer.jobs import Progress
from autoresearch_trainer.jobs.base import printable
from autoresearch_trainer.jobs.calls import (
    CALL,
    OUTPUTS,
    CallAnswer,
    CallArgs,
    CallCase,
    CallStep,
    CaseAnswer,
    Mode,
    ResultName,
    StepAnswer,
)

INPUTS = "inputs.safetensors"
# Address space beyond the data's own: PyTorch, its threads' arenas, compilers.
SPARE_MEMORY = 24 * GIB
# A kernel may need temporaries of several times its arguments' size.
MEMORY_PER_BYTE = 64
MOST_PROCESSES = 512
# Several processes compute at once, each with as many threads as there are cores: they sleep where they wait, not spin.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
# A process that answers case after case may take this many times the time that it may be quiet.
LONGEST_FACTOR = 6


@dataclass(frozen=True)
class Failure:
    """How a process ended without an answer. stage: what it was at."""

    kind: Kind
    message: str
    stage: str
    detail: str = ""

    @property
    def at_load(self) -> bool:
        """Whether the kernel's file could not be executed."""
        return self.stage in ("start", "load")


@dataclass
class Answers:
    """What one process sent back: per case its description, all arrays, and how far it came. answer: None where it gave
    none. arrays: by the names that `ResultName.key` gives. left: names of processes that it left behind."""

    answer: CallAnswer | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    failure: Failure | None = None
    unenforced: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    reached: int = 0

    @property
    def told(self) -> CallAnswer:
        """The answer of a process that gave one. Raises ValueError for another."""
        if self.answer is None:
            raise ValueError("the process gave no answer")
        return self.answer

    @cached_property
    def _cases(self) -> dict[str, CaseAnswer]:
        return {case.id: case for case in self.answer.cases} if self.answer else {}

    def case(self, name: str) -> CaseAnswer | None:
        """The description of one case; None where the process did not come that far."""
        return self._cases.get(name)

    def step(self, case: Case, number: int) -> StepAnswer:
        """What was said about one step; empty where the process did not get there."""
        told = self.case(case.id)
        steps = told.steps if told else []
        return (steps[number] if number < len(steps) else None) or StepAnswer()

    def array(self, case: Case, step: int, name: ResultName) -> np.ndarray | None:
        """A returned array in its storage dtype; None where there is none."""
        return self.arrays.get(name.key(case.id, step))


@dataclass(frozen=True)
class Calls:
    """Cases, and the file with the contents of all of them. bytes: of its arrays."""

    cases: list[Case]
    contract: Contract
    path: Path
    bytes: int


def write_inputs(folder: Path, cases: list[Case], contract: Contract) -> Calls:
    """Write the contents of all cases once."""
    arrays: dict[str, np.ndarray] = {}
    for case in cases:
        for contents in [each for step in case.steps for each in (step.contents, *step.shadows)]:
            arrays |= {f"{contents.prefix}{name}": array for name, array in contents.arrays.items()}
            for place, cotangent in enumerate(contents.cotangents or ()):
                arrays[f"{contents.cotangents_prefix}{place}"] = cotangent
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / INPUTS, arrays)
    return Calls(cases, contract, folder / INPUTS, sum(array.nbytes for array in arrays.values()))


# A candidate makes every step. The baseline leaves out those that only repeat, and makes the shadows instead. "idle" is
# the candidate once more with native functions that do nothing, in the cases whose operators are counted; "bounds" once
# more under a sanitizer, without the largest cases: every shape once, for it decides where memory is touched, and once
# each with edge values and with what is not finite, for values that a place is worked out from do, too.
Part = Literal["candidate", "baseline", "idle", "bounds"]
MOST_BOUNDS_ELEMENTS = 1 << 20
# Bytes that results may have whatever is given: of a long mask all arguments are numbers.
MOST_OUTPUT = 128 << 20


def ask(
    engine: Engine,
    kernel: Kernel,
    calls: Calls,
    *,
    part: Part,
    run_dir: Path,
    seconds: float,
    variables: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_loaded: Callable[[], None] | None = None,
) -> Answers:
    """Have `kernel` compute the cases in a confined process of its own. `seconds`: how long it may be quiet.
    `variables`: added to its environment. on_loaded: called once the kernel's file could be executed.

    Whatever the process does, this returns: a failure is part of the answer.
    """
    cases = [case for case in calls.cases if _belongs(case, part)]
    answers = Answers()
    stage = "start"

    def listen(message: Progress) -> None:
        nonlocal stage
        if "unenforced" in message:
            answers.unenforced = not_enforced(message)
        elif "left" in message:
            answers.left = message["left"]
        elif message.get("stage") == "case":
            stage = printable(f"case {str(message.get('case'))[:80]}")
            answers.reached += 1
        elif "stage" in message:
            stage = printable(str(message["stage"])[:80])
            if stage == "loaded" and on_loaded is not None:
                on_loaded()
        if on_progress is not None:
            on_progress({"stage": "calls", "done": min(answers.reached, len(cases)), "total": len(cases)})

    outputs = run_dir / OUTPUTS
    outputs.unlink(missing_ok=True)
    args = CallArgs(
        kernel=kernel.file,
        inputs=str(calls.path),
        noop=part == "idle",
        cases=[_asked(case, calls.contract, part) for case in cases],
    )
    try:
        limits = _limits(engine, kernel, calls, seconds, part)
        answer = engine.run(
            CALL, args, run_dir=run_dir, limits=limits, variables=WAITING | dict(variables or {}), on_progress=listen
        )
        answers.arrays = read_arrays(outputs, most_bytes=MOST_OUTPUT + 16 * calls.bytes)
        answers.answer = answer
    except JobFailed as failed:
        answers.failure = Failure(failed.kind, str(failed).removeprefix("call: "), stage, failed.detail)
    except ValueError as error:
        answers.failure = Failure("protocol", f"the answer cannot be read: {printable(str(error))}", stage)
    return answers


def again_if_killed(answers: Answers, compute: Callable[[], Answers]) -> Answers:
    """What a process answered; of one that something else killed, what it answers when it is tried once more. To be
    called when no other process of this verification runs, for memory may have been too little for all of them."""
    if answers.failure is None or answers.failure.kind != "killed":
        return answers
    second = compute()
    if second.failure is not None and second.failure.kind == "killed":
        message = f"{second.failure.message}, twice, the second time with no other process beside it"
        second.failure = replace(second.failure, message=message)
    return second


def discard(run_dir: Path) -> None:
    """Remove what a run leaves behind in bulk: arrays, caches and temporary files; logs and the job file stay."""
    for name in (INPUTS, OUTPUTS):
        (run_dir / name).unlink(missing_ok=True)
    discard_scratch(run_dir)


def _limits(engine: Engine, kernel: Kernel, calls: Calls, seconds: float, part: Part) -> Limits:
    # A GPU's driver reserves address space by the hundred GiB, a sanitizer by the TiB.
    reserves = engine.device != "cpu" or part == "bounds"
    return Limits(
        seconds=LONGEST_FACTOR * seconds,
        quiet_seconds=seconds,
        cpu_seconds=int(16 * LONGEST_FACTOR * seconds) + 60,
        memory_bytes=None if reserves else SPARE_MEMORY + MEMORY_PER_BYTE * calls.bytes,
        file_bytes=2 * MOST_OUTPUT + 16 * calls.bytes,
        processes=MOST_PROCESSES,
        confined=True,
        readable=(str(kernel.path.resolve().parent), str(calls.path)),
        gpu=engine.job_device == "cuda",
    )


def _belongs(case: Case, part: Part) -> bool:
    if part == "bounds":
        return elements(case.workload) <= MOST_BOUNDS_ELEMENTS
    return case.spied or part != "idle"


def _asked(case: Case, contract: Contract, part: Part) -> CallCase:
    """A case as the engine takes it. Steps that are left out leave a null, so that numbers stay the same."""
    baseline = part == "baseline"
    steps = [
        _step(step, step.contents, case, part) if _makes(part, number, step) else None
        for number, step in enumerate(case.steps)
    ]
    if baseline:
        steps += [_step(step, contents, case, part) for step in case.steps for contents in step.shadows]
    return CallCase(
        id=case.id,
        args=case.specs,
        grad=list(case.grad),
        inplace=[argument.name for argument in contract.args if argument.inplace],
        spied=case.spied and part != "bounds",
        steps=steps,
        mode=_plainly(case.mode) if baseline else case.mode,
        compiled=case.compiled and part == "candidate",
        leaves=list(case.leaves),
        held=case.held and part == "candidate",
        gathered=case.gathered and part == "candidate",
        threads=case.threads if part in ("candidate", "bounds") else 0,
        same=list(case.same),
        together=list(case.together),
        onward=case.onward,
        turns=part == "candidate" and case.group == "combinations" and not case.compiled,
    )


def _makes(part: Part, number: int, step: CaseStep) -> bool:
    if part == "bounds":
        return number == 0 or step.contents.kind in ("edge", "nonfinite")
    return step.judged or part != "baseline"


def _plainly(mode: Mode) -> Mode:
    """How the baseline computes what a candidate computes in this mode: right is the same."""
    return "plain" if mode in ("not a leaf", "interleaved", "checkpointed") else mode


def _step(step: CaseStep, contents: Contents, case: Case, part: Part) -> CallStep:
    return CallStep(
        contents=contents.prefix,
        scalars=dict(contents.scalars),
        cotangents=contents.cotangents_prefix if contents.cotangents is not None and case.grad else None,
        layout=step.layout,
        again=step.again,
        pattern=step.pattern,
        repeats=step.repeats if part == "candidate" else 0,
        as_arrays=step.as_arrays,
    )


def shadow_number(case: Case, step: int, shadow: int) -> int:
    """The number under which the baseline's process ran a step's shadow: behind the steps themselves."""
    return len(case.steps) + sum(len(earlier.shadows) for earlier in case.steps[:step]) + shadow
