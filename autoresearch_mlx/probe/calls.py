"""Job `call`: runs one kernel on given inputs and hands back what came out, as bytes and as a description of its form.

Nothing here knows what is right. A *case* is a set of arguments; its *steps* are calls with contents put in place one
after the other, so that repeated contents, changed contents and kept results all show. Results are evaluated at once:
an array of MLX is a promise until then.
"""

import contextlib
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_mlx import arrays as files
from autoresearch_mlx.probe import Report
from autoresearch_mlx.probe.environment import Guard
from autoresearch_mlx.probe.layout import Argument, cotangent_in, describe
from autoresearch_mlx.probe.metal_code import MetalCode
from autoresearch_mlx.probe.metal_on_cpu import MetalOnCpu
from autoresearch_trainer.jobs.calls import (
    OUTPUTS,
    CallAnswer,
    CallArgs,
    CallCase,
    CallStep,
    CaseAnswer,
    NoopAnswer,
    Raised,
    ResultName,
    StepAnswer,
)
from autoresearch_trainer.kernel_files import Kernel, load_kernel
from autoresearch_trainer.probe import native_code
from autoresearch_trainer.probe.native_code import NoOps
from autoresearch_trainer.probe.words import signature, words
from autoresearch_trainer.process import fill_fresh_memory

MOST_CHANGES = 50
_BLOCKS_PER_SIZE = 2


def run(args: CallArgs, run_dir: Path, report: Report) -> CallAnswer:
    """Load the kernel and run its cases; arrays go into run_dir/outputs.safetensors.

    `inplace` of a case is ignored: arrays of MLX are values. With `noop` Metal kernels do nothing either; with
    `interpreted` they run on the CPU (see `metal_on_cpu`).

    Raises:
        KernelError: the kernel does not load.
    """
    contents = files.load(Path(args.inputs))
    folder = Path(args.kernel.path).resolve().parent
    places = [Path(run_dir).resolve(), folder]
    noops, metal = NoOps(), MetalCode(idle=args.noop)
    if args.noop:
        noops.install_for_libraries(places)
    on_cpu = MetalOnCpu() if args.interpreted else None
    guard = Guard()
    report({"stage": "load"})
    metal.install(on_cpu.metal_kernel if on_cpu else None)
    try:
        function = load_kernel(args.kernel)
    finally:
        metal.remove()
    native = native_code.loaded_libraries(places) + [f"metal/{name}" for name in metal.made]
    loaded = guard.changes(folder) + guard.planted(folder)
    report({"stage": "loaded"})

    found: dict[str, np.ndarray] = {}
    changed: dict[str, None] = {}

    def look(pattern: int) -> None:
        changed.update(dict.fromkeys(guard.glance(pattern)))

    answers = []
    for case in [_Case(case, contents, function, look) for case in args.cases]:
        report({"stage": "case", "case": case.case.id})
        answers.append(case.run(found))
        changed.update(dict.fromkeys(guard.changes(folder)))
    changed.update(dict.fromkeys(guard.changes(folder, last=True)))
    changed.update(dict.fromkeys(guard.planted(folder, everywhere=True)))
    files.save(found, run_dir / OUTPUTS)
    functions = sorted({*noops.functions, *(f"metal/{name}" for name in metal.made if metal.idle)})
    return CallAnswer(
        signature=signature(function),
        loaded=loaded,
        changed=list(changed)[:MOST_CHANGES],
        native=native,
        noop=NoopAnswer(functions=functions, calls=noops.calls + metal.calls),
        launches=dict(on_cpu.launches) if on_cpu else None,
        cases=answers,
    )


class _Case:
    """One case, and the results of its steps until they are written."""

    def __init__(
        self, case: CallCase, contents: dict[str, np.ndarray], function: Kernel, look: Callable[[int], None]
    ) -> None:
        self.case, self.contents, self.function, self.look = case, contents, function, look
        self.operators: dict[str, int] | None = None
        self.sizes: set[int] = set()

    def run(self, found: dict[str, np.ndarray]) -> CaseAnswer:
        """All steps; whatever the kernel raises ends the case and is told in words."""
        error: Raised | None = None
        steps: list[StepAnswer | None] = []
        kept: dict[str, mx.array] = {}
        try:
            for number, step in enumerate(self.case.steps):
                steps.append(None if step is None else self._step(step, number, kept))
            # Only now: a result that a later call overwrote must show.
            found |= {name: files.to_numpy(array) for name, array in kept.items()}
        except BaseException as raised:  # SystemExit and its like included: they are the kernel's, too
            error = words(raised)
        return CaseAnswer(id=self.case.id, error=error, steps=steps, operators=self.operators)

    def _step(self, step: CallStep, number: int, kept: dict[str, mx.array]) -> StepAnswer:
        place_of = partial(ResultName.key, case=self.case.id, step=number)
        inputs = {
            spec["name"]: Argument(spec, self.contents[f"{step.contents}{spec['name']}"])
            for spec in self.case.args
            if spec["kind"] == "array"
        }
        values: dict[str, Any] = {spec["name"]: spec.get("value") for spec in self.case.args} | step.scalars
        values |= {name: argument.array for name, argument in inputs.items()}
        before = {name: hashlib.sha256(argument.content()).hexdigest() for name, argument in inputs.items()}
        self.sizes |= {argument.storage.nbytes for argument in inputs.values()}
        fill_fresh_memory(step.pattern)
        _dirty_blocks(self.sizes, step.pattern)
        names = self.case.grad if step.cotangents is not None else []
        returned, gradients = self._call(step, values, names)
        outputs = list(returned) if isinstance(returned, (tuple, list)) else [returned]
        forms = [describe(output) for output in outputs]
        usable = {place_of(ResultName.output(place)): o for place, o in enumerate(outputs) if forms[place].plain}
        if self.case.spied and self.operators is None:
            self.operators = _operators(list(usable.values()))
        mx.eval(list(usable.values()), list(gradients.values()))
        self.look(step.pattern)
        kept |= usable
        self.sizes |= {array.nbytes for array in usable.values()}
        kept |= {place_of(ResultName.gradient(name)): gradient for name, gradient in gradients.items()}
        again = None
        if step.again and gradients:
            _, repeated = self._call(step, values, names)
            mx.eval(list(repeated.values()))
            kept |= {place_of(ResultName.gradient(name).again): gradient for name, gradient in repeated.items()}
            again = "done"
        after = {name: hashlib.sha256(argument.content()).hexdigest() for name, argument in inputs.items()}
        return StepAnswer(
            outputs=forms,
            sequence=isinstance(returned, (tuple, list)),
            grads={name: describe(gradient) for name, gradient in gradients.items()},
            again=again,
            changed=[name for name in before if before[name] != after[name]],
        )

    def _call(self, step: CallStep, values: dict[str, Any], names: list[str]) -> tuple[Any, dict[str, mx.array]]:
        """What the kernel returns, and the gradients of `names` with the step's cotangents; nothing is evaluated.

        With gradients, the results are those of the call that is differentiated: some operators take another path then.
        """
        if not names:
            return self.function(*values.values()), {}
        # A trial, of which only shapes and dtypes are looked at: a cotangent that does not fit would be an error.
        trial = self.function(*values.values())
        outputs = list(trial) if isinstance(trial, (tuple, list)) else [trial]
        names_of = {place: f"{step.cotangents}{place}" for place in range(len(outputs))}
        given = {place: self.contents[name] for place, name in names_of.items() if name in self.contents}
        reached = [
            place
            for place, output in enumerate(outputs)
            if type(output) is mx.array and place in given and tuple(output.shape) == given[place].shape
        ]
        if not reached:
            return trial, {}
        cotangents = [cotangent_in(step.layout, given[place], outputs[place].dtype) for place in reached]
        structure: list[type] = []

        def differentiated(*leaves: mx.array) -> list[mx.array]:
            returned = self.function(*(values | dict(zip(names, leaves, strict=True))).values())
            structure.append(type(returned))
            self.others = list(returned) if isinstance(returned, (tuple, list)) else [returned]
            return [self.others[place] for place in reached]

        results, gradients = mx.vjp(differentiated, [values[name] for name in names], cotangents)
        complete = dict(enumerate(self.others)) | dict(zip(reached, results, strict=True))
        returned = [complete[place] for place in range(len(self.others))]
        packed = returned if issubclass(structure[0], (tuple, list)) else returned[0]
        return packed, dict(zip(names, gradients, strict=True))


def _dirty_blocks(sizes: set[int], pattern: int) -> None:
    """Make blocks of these sizes (bytes), fill them, and give them back: MLX's cache is likely to hand out these."""
    blocks = [mx.full((max(1, size),), pattern, dtype=mx.uint8) for size in sizes for _ in range(_BLOCKS_PER_SIZE)]
    mx.eval(blocks)
    del blocks


def _operators(outputs: list[mx.array]) -> dict[str, int] | None:
    """Operators in the graph behind unevaluated results, by name; None where MLX does not tell."""
    text = io.StringIO()
    with contextlib.suppress(Exception):
        mx.export_to_dot(text, *outputs)
    names = re.findall(r'label ?= ?"([A-Za-z]\w*)"', text.getvalue())
    return dict(Counter(name for name in names if len(name) > 1)) or None
