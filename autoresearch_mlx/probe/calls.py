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
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from autoresearch_mlx import arrays as files
from autoresearch_mlx.checks.judge import is_float
from autoresearch_mlx.kernel_files import traced
from autoresearch_mlx.optim import AS_ARRAYS
from autoresearch_mlx.probe import Report
from autoresearch_mlx.probe.environment import Guard
from autoresearch_mlx.probe.layout import Argument, cotangent_in, describe
from autoresearch_mlx.probe.metal_code import MetalCode
from autoresearch_mlx.probe.metal_on_cpu import MetalOnCpu
from autoresearch_mlx.probe.repeated import repeat, times
from autoresearch_trainer.forms import listed
from autoresearch_trainer.jobs.calls import (
    NOT_COMPILED,
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
from autoresearch_trainer.probe.repeated import Repeated, next_step
from autoresearch_trainer.probe.words import signature, words
from autoresearch_trainer.process import fill_fresh_memory, keep_freed_memory

MOST_CHANGES = 50
_BLOCKS_PER_SIZE = 2
MOST_OUTPUTS = 16
# What MLX says where a function that it traces wants a number at once.
_UNTRACEABLE = "during function transformations"


def run(args: CallArgs, run_dir: Path, report: Report) -> CallAnswer:
    """Load the kernel and run its cases; arrays go into run_dir/outputs.safetensors.

    `inplace` of a case is ignored: arrays of MLX are values. So is its mode, but for "interleaved": MLX has no leaves
    and no modes of autograd. With `noop` Metal kernels do nothing either; with `interpreted` they run on the CPU (see
    `metal_on_cpu`), where none can be traced, so that nothing is compiled.

    Raises:
        KernelError: the kernel does not load.
    """
    keep_freed_memory()  # as in every training, before the guard looks how malloc behaves
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
    asked = [case.model_copy(update={"compiled": False}) for case in args.cases] if args.interpreted else args.cases
    as_arrays = AS_ARRAYS.get(args.kernel.target, ())
    for case in [_Case(case, contents, function, look, as_arrays) for case in asked]:
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
    """One case, and the results of its steps until they are written. as_arrays: the scalars that the trainer hands to a
    kernel as arrays."""

    def __init__(
        self,
        case: CallCase,
        contents: dict[str, np.ndarray],
        function: Kernel,
        look: Callable[[int], None],
        as_arrays: Collection[str],
    ) -> None:
        self.case, self.contents, self.function, self.look = case, contents, function, look
        self.as_arrays = as_arrays
        self.operators: dict[str, int] | None = None
        self.sizes: set[int] = set()
        # By constants and places of cotangents: what mx.compile made, and the type that the kernel returned.
        self.compiled: dict[tuple[Any, ...], tuple[Callable[..., Any], list[type]]] = {}
        # What the step before called the kernel with.
        self.before: dict[str, Any] | None = None

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
            if self.case.compiled and _UNTRACEABLE in str(raised):
                error = error.model_copy(update={"type": NOT_COMPILED})
        return CaseAnswer(id=self.case.id, error=error, steps=steps, operators=self.operators)

    def _step(self, step: CallStep, number: int, kept: dict[str, mx.array]) -> StepAnswer:
        place_of = partial(ResultName.key, case=self.case.id, step=number)
        inputs = {
            spec["name"]: Argument(spec, self.contents[f"{step.contents}{spec['name']}"])
            for spec in self.case.args
            if spec["kind"] == "array"
        }
        values: dict[str, Any] = {spec["name"]: spec.get("value") for spec in self.case.args} | step.scalars
        if step.as_arrays:
            values |= {name: mx.array(values[name]) for name in self.as_arrays}
        values |= {name: argument.array for name, argument in inputs.items()}
        before = {name: hashlib.sha256(argument.content()).hexdigest() for name, argument in inputs.items()}
        self.sizes |= {argument.storage.nbytes for argument in inputs.values()}
        fill_fresh_memory(step.pattern)
        _dirty_blocks(self.sizes, step.pattern)
        names = self.case.grad if step.cotangents is not None else []
        if self.case.turns:
            # With what the step before was called with, as an evaluation follows a training step.
            self._other_turn(self.before or values)
            self.before = values
        cotangents = self._cotangents(step) if names else {}
        call = self._compiled if self.case.compiled else self._call
        returned, gradients = call(values, cotangents, names)
        returned = self._onward(values, returned)
        outputs = listed(returned)
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
            _, second = call(values, cotangents, names)
            mx.eval(list(second.values()))
            kept |= {place_of(ResultName.gradient(name).again): gradient for name, gradient in second.items()}
            again = "done"
        repeated = Repeated()
        if step.repeats:
            once = partial(self._call, cotangents=cotangents, names=names)
            repeated = repeat(once, values, step.repeats, self.case.inplace)
        after = {name: hashlib.sha256(argument.content()).hexdigest() for name, argument in inputs.items()}
        return StepAnswer(
            outputs=forms,
            sequence=isinstance(returned, (tuple, list)),
            grads={name: describe(gradient) for name, gradient in gradients.items()},
            again=again,
            changed=[name for name in before if before[name] != after[name]],
            repeated=repeated.calls,
            strayed=repeated.strayed,
            leaked=repeated.leaked,
            crossed=repeated.crossed,
            followed=repeated.followed,
        )

    def _onward(self, values: dict[str, Any], returned: Any) -> Any:
        """What the last of the steps returned that follow a call, or the call itself where none does. They have zeros
        for all that is not updated."""
        for _ in range(self.case.onward):
            arguments = dict(zip(values, next_step(values, values.values(), 1.0), strict=True))
            zeros = {
                spec["name"]: mx.zeros_like(values[spec["name"]]) for spec in self.case.args if spec["kind"] == "array"
            }
            values = arguments | zeros | dict(zip(self.case.inplace, listed(returned), strict=True))
            returned = self.function(*values.values())
        return returned

    def _cotangents(self, step: CallStep) -> dict[int, mx.array]:
        """By the place of the output."""
        arrays = {place: self.contents.get(f"{step.cotangents}{place}") for place in range(MOST_OUTPUTS)}
        return {place: cotangent_in(step.layout, array) for place, array in arrays.items() if array is not None}

    def _unified(self, values: dict[str, Any]) -> dict[str, Any]:
        """The same with one array where the case has one for two arguments."""
        return {**values, self.case.same[1]: values[self.case.same[0]]} if self.case.same else values

    def _other_turn(self, values: dict[str, Any]) -> None:
        """Call the kernel as an evaluation does where the case differentiates it, and the other way round."""
        if self.case.grad:
            returned, gradients = self._call(values, {}, [])
        else:
            names = [name for name, value in values.items() if isinstance(value, mx.array) and is_float(value)]
            outputs = listed(self.function(*values.values()))
            ones = {place: mx.ones_like(output) for place, output in enumerate(outputs) if is_float(output)}
            returned, gradients = self._call(values, ones, names)
        mx.eval(listed(returned), gradients)

    def _compiled(
        self, values: dict[str, Any], cotangents: dict[int, mx.array], names: list[str]
    ) -> tuple[Any, dict[str, mx.array]]:
        """The same as `_call` through mx.compile, traced once for all steps with the same scalars, with other values of
        the arrays, as a trainer's step is: what a kernel takes from an array for good is wrong later."""
        arrays = {name: value for name, value in values.items() if isinstance(value, mx.array)}
        constants = {name: value for name, value in values.items() if name not in arrays}
        given = [*cotangents.values()]
        key = (*constants.items(), *cotangents)
        if key not in self.compiled:
            kinds: list[type] = []

            def body(arrays: dict[str, mx.array], given: list[mx.array]) -> Any:
                filled = {name: arrays.get(name, value) for name, value in values.items()}
                returned, gradients = self._call(filled, dict(zip(cotangents, given, strict=True)), names)
                kinds.append(type(returned))
                return listed(returned), gradients

            self.compiled[key] = mx.compile(traced(body)), kinds
            mx.eval(self.compiled[key][0](times(arrays, 0.5), given))
        function, kinds = self.compiled[key]
        outputs, gradients = function(arrays, given)
        return outputs if issubclass(kinds[0], (tuple, list)) else outputs[0], gradients

    def _call(
        self, values: dict[str, Any], cotangents: dict[int, mx.array], names: list[str]
    ) -> tuple[Any, dict[str, mx.array]]:
        """What the kernel returns, and the gradients of `names` with these cotangents; nothing is evaluated.

        With gradients, the results are those of the call that is differentiated: some operators take another path then.
        """
        values = self._unified(values)
        if not names:
            return self.function(*values.values()), {}
        # A trial, of which only shapes and dtypes are looked at: a cotangent that does not fit would be an error.
        trial = self.function(*values.values())
        outputs = listed(trial)
        reached = [
            place
            for place, output in enumerate(outputs)
            if type(output) is mx.array and place in cotangents and output.shape == cotangents[place].shape
        ]
        if not reached:
            return trial, {}
        given = [cotangents[place].astype(outputs[place].dtype) for place in reached]
        structure: list[type] = []

        def differentiated(*leaves: mx.array) -> list[mx.array]:
            found = self._unified(values | dict(zip(names, leaves, strict=True)))
            returned = self.function(*found.values())
            if self.case.mode == "interleaved":
                # Another layer's call comes before this one's backward.
                self.function(*times(values, 0.5).values())
            structure.append(type(returned))
            self.others = listed(returned)
            return [self.others[place] for place in reached]

        results, gradients = mx.vjp(differentiated, [values[name] for name in names], given)
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
