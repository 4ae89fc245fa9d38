"""Job `call`: runs one kernel on given inputs and hands back what came out, as bytes and as a description of its form.

Nothing here knows what is right. A *case* is a set of arguments at fixed addresses; its *steps* are calls with contents
put in place one after the other, so that repeated contents, changed contents and kept results all show. Functions that
handle the results are bound before the kernel is loaded.
"""

import contextlib
import hashlib
import itertools
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch.autograd import profiler_legacy

from autoresearch_common.workload import arrays, is_contiguous
from autoresearch_cuda.probe import Report, context, interpreter
from autoresearch_cuda.probe.forms import describe, layout_of, storage_bytes, storage_content
from autoresearch_cuda.probe.guard import Guard
from autoresearch_cuda.probe.observers import configurations
from autoresearch_cuda.probe.repeated import repeat
from autoresearch_cuda.probe.tensors import DTYPES, Buffer, dirty_blocks, span_of, standing
from autoresearch_trainer.forms import listed
from autoresearch_trainer.jobs.calls import (
    NOT_COMPILED,
    OUTPUTS,
    CallAnswer,
    CallArgs,
    CallCase,
    CallStep,
    CaseAnswer,
    Form,
    NoopAnswer,
    Raised,
    ResultName,
    StepAnswer,
)
from autoresearch_trainer.kernel_files import Kernel, load_kernel
from autoresearch_trainer.probe import native_code
from autoresearch_trainer.probe.clock import MovableClock
from autoresearch_trainer.probe.native_code import NoOps
from autoresearch_trainer.probe.repeated import Repeated, next_step
from autoresearch_trainer.probe.words import signature, words
from autoresearch_trainer.process import fill_fresh_memory, keep_freed_memory

_detach, _clone, _contiguous = torch.Tensor.detach, torch.Tensor.clone, torch.Tensor.contiguous
_grad, _sha256, _is_tensor = torch.autograd.grad, hashlib.sha256, torch.is_tensor
_run_backward = torch.autograd.backward

# Every element of a gradient that an argument holds from before.
HELD = 0.5
# Arguments of so many bytes at most are looked at once more when all cases are over.
MOST_REMEMBERED = 1 << 26
# Those of another call that comes between forward and backward have so many at most.
MOST_BETWEEN = 1 << 20
MOST_COMPILES = 256
MOST_CHANGES = 50
# Count the calls whose arguments are no leaves, and the cases of such calls.
_turns, _behind = itertools.count(), itertools.count()


def run(args: CallArgs, run_dir: Path, report: Report) -> CallAnswer:
    """Load the kernel and run its cases; arrays go into run_dir/outputs.safetensors.

    Raises:
        KernelError: the kernel does not load.
    """
    keep_freed_memory()  # as in every training, before the guard looks how malloc behaves
    device = torch.device(args.device)
    contents = load_file(args.inputs)
    folder = Path(args.kernel.path).resolve().parent
    places = [Path(run_dir).resolve(), folder]
    noops = NoOps()
    if args.noop:
        noops.install_for_libraries(places)
    if any(case.compiled for case in args.cases):
        context.import_compiler()
    clock = MovableClock()
    clock.install()
    guard = Guard()
    report({"stage": "load"})
    function = load_kernel(args.kernel)
    native = native_code.loaded_libraries(places) + (["triton"] if native_code.uses_triton(function) else [])
    if args.noop:
        noops.install_for_triton()
    elif interpreter.in_use():
        interpreter.Watch().install()
    _expect_many_shapes()
    loaded = guard.changes(folder) + guard.planted(folder) + guard.set_while_loading()
    report({"stage": "loaded"})

    arrays: dict[str, torch.Tensor] = {}
    changed: dict[str, None] = {}

    def look(pattern: int) -> None:
        changed.update(dict.fromkeys(guard.glance(pattern)))

    # All cases live to the end: an address that comes back with another case's contents would look like a stale result.
    earlier: list[_Case] = []
    cases = [_Case(case, contents, device, function, look, clock, earlier) for case in args.cases]
    answers = []
    for case in cases:
        report({"stage": "case", "case": case.case.id})
        answers.append(case.run(arrays))
        case.remember()
        if answers[-1].error is None and not case.case.compiled:
            earlier.append(case)
        changed.update(dict.fromkeys(guard.changes(folder)))
    answers = [_with_moved(answer, case.moved()) for answer, case in zip(answers, cases, strict=True)]
    changed.update(dict.fromkeys(guard.changes(folder, last=True)))
    changed.update(dict.fromkeys(guard.planted(folder, everywhere=True)))
    save_file(arrays, run_dir / OUTPUTS)
    return CallAnswer(
        signature=signature(function),
        loaded=loaded,
        changed=list(changed)[:MOST_CHANGES],
        native=native,
        configurations=configurations(),
        noop=NoopAnswer(functions=sorted(noops.functions), calls=noops.calls),
        cases=answers,
    )


class _Case:
    """One case: its buffers, and the results of its steps until they are written."""

    def __init__(
        self,
        case: CallCase,
        contents: dict[str, torch.Tensor],
        device: torch.device,
        function: Kernel,
        look: Callable[[int], None],
        clock: MovableClock,
        earlier: "Sequence[_Case]" = (),
    ) -> None:
        self.case = case
        self.earlier = earlier
        self.contents = contents
        self.device = device
        self.function = function
        if case.compiled:
            # As a trainer's arguments lie; what a backward is handed may lie otherwise all the same.
            row_major = all(map(is_contiguous, arrays({"args": case.args})))
            paired = case.mode == "interleaved"
            self.function = context.compiled(function, _exchanged(case), strict=row_major, paired=paired)
        self.look = look
        self.clock = clock
        self.operators: dict[str, dict[str, int]] = {"forward": {}, "backward": {}}
        self.sizes: set[int] = set()
        self.scalars: dict[str, Any] = {}
        # By the names of outputs: the step that returned each, and a hash of what it held then.
        self.returned: dict[str, tuple[int, str, str]] = {}
        self._left: dict[str, str] = {}
        self.buffers: dict[str, Buffer] = {}
        wanted = {*case.grad, *case.leaves}
        block = self._block()
        for spec in case.args:
            if spec["kind"] == "array":
                given = block if spec["name"] in case.together else None
                buffer = Buffer({**spec, "grad": spec["name"] in wanted}, device, needs_grad=True, block=given)
                # What lies between the elements of a strided argument belongs to somebody else.
                cast(Any, buffer.tensor.untyped_storage()).fill_(0xFF)
                if buffer.tensor.requires_grad:
                    # As a trainer has it: its only leaves are parameters.
                    buffer.tensor = torch.nn.Parameter(_detach(buffer.tensor))
                    if case.held:
                        buffer.tensor.grad = torch.full_like(buffer.tensor, HELD)
                self.buffers[spec["name"]] = buffer
                self.sizes.add(buffer.nbytes)
        self.kept = self._leaves_behind_others() if case.mode == "not a leaf" and not case.same else ()
        if case.gathered:
            self._hand_its_own()

    def _block(self) -> torch.Tensor | None:
        """The memory of the arguments that lie together, if any do."""
        parts = [spec for spec in self.case.args if spec["kind"] == "array" and spec["name"] in self.case.together]
        spans = [span_of(spec) for spec in parts]
        return torch.zeros(max(spans), dtype=DTYPES[parts[0]["dtype"]], device=self.device) if parts else None

    def _leaves_behind_others(self) -> Sequence[str]:
        """Of arguments that are no leaves those that are leaves all the same: by turns none, all but the first, as a
        layer's parameters beside the stream are, and some."""
        names, turn = self.case.grad, next(_behind) % 3
        if len(names) < 2 or not turn:
            return ()
        if turn == 1:
            return names[1:]
        drawn = random.Random(self.case.id)
        return drawn.sample(names, drawn.randint(1, len(names) - 1))

    def _hand_its_own(self) -> None:
        """An optimizer's parameter holds the very gradient that is handed in beside it, as in a training."""
        given = [each.tensor for name, each in self.buffers.items() if name not in self.case.inplace]
        for name in self.case.inplace:
            parameter = self.buffers[name].tensor
            alike = [each for each in given if (each.shape, each.dtype) == (parameter.shape, parameter.dtype)]
            if parameter.requires_grad and alike:
                parameter.grad = alike[0]

    def run(self, arrays: dict[str, torch.Tensor]) -> CaseAnswer:
        """All steps; whatever the kernel raises ends the case and is told in words."""
        error: Raised | None = None
        steps: list[StepAnswer | None] = []
        kept: dict[str, torch.Tensor] = {}
        try:
            for number, step in enumerate(self.case.steps):
                steps.append(None if step is None else self._step(step, number, kept))
            # Only now: a result that a later call overwrote must show.
            for name, tensor in kept.items():
                arrays[name] = _clone(_contiguous(_detach(tensor))).cpu()
            for name, (number, place, before) in self.returned.items():
                told = steps[number]
                if told is not None and _content_digest(arrays[name]) != before:
                    steps[number] = told.model_copy(update={"altered": [*told.altered, place]})
        except BaseException as raised:  # SystemExit and its like included: they are the kernel's, too
            error = words(raised)
            if self.case.compiled and context.is_of_compiler(raised):
                error = error.model_copy(update={"type": NOT_COMPILED})
        counted = self.operators if self.case.spied and error is None else {}
        return CaseAnswer(
            id=self.case.id,
            error=error,
            steps=steps,
            operators=counted.get("forward"),
            backward_operators=counted.get("backward"),
        )

    def _step(self, step: CallStep, number: int, kept: dict[str, torch.Tensor]) -> StepAnswer:
        values: dict[str, Any] = {spec["name"]: spec.get("value") for spec in self.case.args} | step.scalars
        turns = self.case.turns and not self.case.inplace
        if turns and number:
            # With what the arguments held before, and the scalars of that call.
            context.other_turn(self.function, self.arguments(), self.case.mode)
        self.scalars = dict(values)
        self._fill(step)
        values = self.arguments()
        if turns and not number:
            # With the very same, as where a step begins with an evaluation.
            for place, output in enumerate(context.other_turn(self.function, values, self.case.mode)):
                if describe(output, {}, []).plain:
                    turned = ResultName.output(place).turned
                    kept[turned.key(self.case.id, number)] = _clone(_detach(output))
        if self.case.same:
            one, other = self.case.same
            values[other] = values[one]
        before = self._states()
        fill_fresh_memory(step.pattern)
        dirty_blocks(self.sizes, step.pattern, self.device)
        others = self._others(values) if self.case.mode == "interleaved" and not self.case.compiled else ()
        turn = next(_turns) if self.case.mode == "not a leaf" else 0
        call = context.Call(self.function, values, self.case.mode, number=turn, others=others, kept=self.kept)
        with context.threads(self.case.threads), _operators(self.case.spied, self.operators["forward"]):
            returned = self._onward(values, call.forward())
        if self.case.mode == "not a leaf":
            # What the arguments' memory held is gone where nobody kept it.
            dirty_blocks(self.sizes, step.pattern, self.device)
        # What is put back in backward was changed for whoever reads it in between.
        meanwhile = self._states()
        self.look(step.pattern)
        outputs = listed(returned)
        # A parameter that comes back as it was given is as good as the tensor that it is.
        given = {id(buffer.tensor) for buffer in self.buffers.values()}
        outputs = [_detach(output) if id(output) in given else output for output in outputs]
        tensors = {f"argument {name}": buffer.tensor for name, buffer in self.buffers.items()}
        forms = [describe(output, tensors, outputs[:place]) for place, output in enumerate(outputs)]
        usable = [(place, output) for place, output in enumerate(outputs) if forms[place].plain]
        sequence = isinstance(returned, (tuple, list))
        self._keep(usable, number, kept)
        grads: dict[str, Form | None] = {}
        again: str | None = None
        spoilt: list[str] = []
        if self.case.mode == "not a leaf":
            # Nor is a result still there, unless somebody kept it for the backward pass.
            usable = [(place, context.consumed(output)) for place, output in usable]
            del returned, outputs
            dirty_blocks(self.sizes, step.pattern, self.device)
        if step.cotangents is not None and self.case.grad:
            call.hold()
            with context.threads(self.case.threads), _operators(self.case.spied, self.operators["backward"]):
                grads, again, spoilt = self._backward(step, usable, number, kept)
                call.backward()
        for name in self.case.inplace:
            kept[ResultName.argument(name).key(self.case.id, number)] = _clone(_detach(self.buffers[name].tensor))
        after = self._states()
        spoilt += [f"{name} (no leaf)" for name in call.written()]
        repeated = Repeated()
        if step.repeats:
            with context.entered(self.case.mode):
                refill = partial(self._fill, step)
                repeated = repeat(
                    self.function, values, refill, step.repeats, self.clock, step.pattern, self.case.inplace,
                    compiled=self.case.compiled,
                )  # fmt: skip
        return StepAnswer(
            outputs=forms,
            sequence=sequence,
            grads=grads,
            again=again,
            changed=[name for name in before if not before[name] == meanwhile.get(name) == after.get(name)] + spoilt,
            repeated=repeated.calls,
            strayed=repeated.strayed,
            late=repeated.late,
            leaked=repeated.leaked,
            crossed=repeated.crossed,
            followed=repeated.followed,
            apart=repeated.apart,
        )

    def _onward(self, values: dict[str, Any], returned: Any) -> Any:
        """What the last of the steps returned that follow a call, or the call itself where none does."""
        arguments = [
            value if name in self.case.inplace or not isinstance(value, torch.Tensor) else torch.zeros_like(value)
            for name, value in values.items()
        ]
        for _ in range(self.case.onward):
            arguments = next_step(values, arguments, 1.0)
            returned = self.function(*arguments)
        return returned

    def _keep(self, outputs: list[tuple[int, torch.Tensor]], number: int, kept: dict[str, torch.Tensor]) -> None:
        """The results of a step, until they are written; copies where the results themselves may go."""
        copied = bool(self.case.inplace) or self.case.mode == "not a leaf"
        for place, output in outputs:
            key = ResultName.output(place).key(self.case.id, number)
            kept[key] = _clone(_detach(output)) if copied else output
            self.returned[key] = number, f"output {place}", _content_digest(output)
            self.sizes.add(storage_bytes(output))

    def arguments(self) -> dict[str, Any]:
        """The call as it stands: {argument: value}, in order."""
        names = [spec["name"] for spec in self.case.args]
        return {name: self.buffers[name].tensor if name in self.buffers else self.scalars[name] for name in names}

    def _others(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Calls that may come between forward and backward: one with the scalars of another of the steps, and one of an
        earlier case, whose sizes and scalars are others."""
        scalars = [step.scalars for step in self.case.steps if step is not None]
        found = [values | each for each in scalars if any(values[name] != each[name] for name in each)][:1]
        able = [each for each in self.earlier if not each.case.same and each.nbytes <= MOST_BETWEEN]
        able.sort(key=lambda other: other.scalars != self.scalars)
        return found + [other.arguments() for other in able[-1:]]

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers.values())

    def _fill(self, step: CallStep) -> None:
        for name, buffer in self.buffers.items():
            buffer.fill(self.contents[f"{step.contents}{name}"].to(self.device))

    def _backward(
        self, step: CallStep, outputs: list[tuple[int, torch.Tensor]], number: int, kept: dict[str, torch.Tensor]
    ) -> tuple[dict[str, Form | None], str | None, list[str]]:
        """Gradients of all outputs with the given cotangents: forms by argument, None = missing. Last: the cotangents
        that were written to. Of several outputs one whose cotangent is zero throughout is left unused, as a trainer
        may leave it; an argument that nothing else depends on then may have no gradient, which is zero.

        Where asked, backward runs twice, the second time with the opposite cotangents, so that the gradients are the
        opposite as well; the second value then is "done" or the error that refused it."""
        names = self.case.grad
        inputs = [self.buffers[name].tensor for name in names]
        given = {
            place: self.contents[key] for place, _ in outputs if (key := f"{step.cotangents}{place}") in self.contents
        }
        # An output of another shape is wrong in its own right, and has no use for the cotangent.
        reached = [
            (place, output)
            for place, output in outputs
            if output.requires_grad and place in given and output.shape == given[place].shape
        ]
        if not reached:
            return dict.fromkeys(names), None, []
        used = [(place, output) for place, output in reached if given[place].any()]
        unused = bool(used) and len(used) < len(reached)
        reached = used if unused else reached
        # Of its own each: what was read from a file shares a block with its neighbours there.
        cotangents = [layout_of(_clone(given[place]).to(self.device), step.layout) for place, _ in reached]
        opposite = [layout_of(-given[place].to(self.device), step.layout) for place, _ in reached if step.again]
        sources = [output for _, output in reached]
        handed = {f"cotangent {place}": each for (place, _), each in zip(reached, cotangents, strict=True)}
        before = [_digest(each) for each in (*cotangents, *opposite)]
        forms: dict[str, Form | None] = {}
        gradients: tuple[torch.Tensor | None, ...]
        try:
            if self.case.gathered and not step.again:
                gradients = _gathered(sources, inputs, cotangents)
            else:
                gradients = _grad(sources, inputs, cotangents, retain_graph=step.again, allow_unused=True)
        except RuntimeError as error:
            if not step.again:
                raise
            return {}, words(error).message, []
        if unused:
            gradients = _without_none(gradients, inputs)
        for name, gradient in zip(names, gradients, strict=True):
            form = forms[name] = None if gradient is None else describe(gradient, handed, [])
            if gradient is not None and form is not None and form.plain:
                kept[ResultName.gradient(name).key(self.case.id, number)] = gradient
        again = None
        if step.again:
            # Either the same once more, or an error that says that once is all there is.
            try:
                repeated = _grad(sources, inputs, opposite, allow_unused=True)
                for name, gradient in zip(names, repeated, strict=True):
                    if gradient is not None:
                        kept[ResultName.gradient(name).again.key(self.case.id, number)] = -gradient
                again = "done"
            except RuntimeError as error:
                again = words(error).message
        pairs = zip([*handed, *handed], (*cotangents, *opposite), before, strict=False)
        return forms, again, list(dict.fromkeys(name for name, each, was in pairs if _digest(each) != was))

    def _states(self) -> dict[str, object]:
        """Of each argument: a hash of its whole storage, the gaps between strided elements included, and by names such
        as "x's shape" what there is to know of it besides. Of those in place a hash of the gaps alone, and of the
        gradient that one holds; what happens to its gradients."""
        found: dict[str, object] = {}
        for name, buffer in self.buffers.items():
            held, about = buffer.tensor.grad, standing(buffer.tensor)
            found[f"the gradient held by {name}"] = "" if held is None else _digest(held)
            if name not in self.case.inplace:
                found[name] = _digest(buffer.tensor)
                found |= {f"{name}'s {what}": value for what, value in about.items()}
                continue
            if buffer.spread:
                found[f"the memory around {name}"] = _digest(buffer.around())
            found[f"what happens to gradients of {name}"] = about["wish for a gradient"], about["hooks"]
        return found

    def remember(self) -> None:
        """What its arguments hold when its calls are over."""
        small = {name: each for name, each in self.buffers.items() if each.nbytes <= MOST_REMEMBERED}
        self._left = {name: _digest(buffer.tensor) for name, buffer in small.items()}

    def moved(self) -> list[str]:
        """Arguments that have changed since, in words: calls of other cases were handed others."""
        now = {name: _digest(self.buffers[name].tensor) for name in self._left}
        return [f"{name} (by a call that it was not handed to)" for name in now if now[name] != self._left[name]]


def _exchanged(case: CallCase) -> tuple[int, int] | None:
    """The axes whose exchange hands the case's cotangents on, where one does; see `forms.layout_of`."""
    layouts = {step.layout for step in case.steps if step is not None}
    return (1, 2) if "inner transposed" in layouts else (0, 1) if "transposed" in layouts else None


def _gathered(
    outputs: list[torch.Tensor], leaves: list[torch.Tensor], cotangents: list[torch.Tensor]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients as a trainer gets them: each parameter gathers its own, and hooks on that act."""
    _run_backward(outputs, cotangents)
    found = tuple(each.grad for each in leaves)
    for each in leaves:
        each.grad = None
    return found


def _with_moved(answer: CaseAnswer, moved: list[str]) -> CaseAnswer:
    """The answer, with what moved when its calls were over told of the last of them."""
    if not moved or not answer.steps or answer.steps[-1] is None:
        return answer
    last = answer.steps[-1]
    last = last.model_copy(update={"changed": [*last.changed, *moved]})
    return answer.model_copy(update={"steps": [*answer.steps[:-1], last]})


def _without_none(gradients: Sequence[torch.Tensor | None], inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    pairs = zip(gradients, inputs, strict=True)
    return tuple(torch.zeros_like(given) if gradient is None else gradient for gradient, given in pairs)


def _digest(tensor: torch.Tensor) -> str:
    return _sha256(storage_content(tensor).data).hexdigest()


def _content_digest(tensor: torch.Tensor) -> str:
    """Hash of the elements alone."""
    return _sha256(_contiguous(_detach(tensor)).cpu().reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _expect_many_shapes() -> None:
    """A kernel that goes through torch.compile meets more shapes and dtypes here than torch expects of one function."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.config.recompile_limit = dynamo.config.accumulated_recompile_limit = MOST_COMPILES


@contextlib.contextmanager
def _operators(wanted: bool, counts: dict[str, int]) -> Iterator[None]:
    """Add the operators that PyTorch runs meanwhile, inside custom ones too, to `counts`, by name."""
    if not wanted:
        yield
        return
    # The plain recorder: torch.profiler takes a second to start and imports torch's compiler.
    with profiler_legacy.profile() as profile:
        yield
    for row in profile.key_averages():
        if "::" in row.key and " " not in row.key:
            counts[row.key] = counts.get(row.key, 0) + row.count
