"""Catches results that are not what they look like: subclasses and proxies that compute later, another dtype or shape,
overlapping or scattered elements, a small view of a large stock, memory shared with an argument or another output, and
a graph that goes on where gradients are switched off."""

from __future__ import annotations

import math
from collections.abc import Iterator

from autoresearch_common.workload import ITEMSIZE
from autoresearch_lab.catalog import Target
from autoresearch_lab.results.verify import CheckResult
from autoresearch_lab.verify.cases import GROUPS, Case
from autoresearch_lab.verify.checks.result import MOST_EXAMPLES, failed, passed
from autoresearch_lab.verify.comparisons import Comparisons
from autoresearch_lab.verify.reference import Expected
from autoresearch_trainer.jobs.calls import Form, ResultName

NAME = "form"
# What the engines compute with; a kernel can only return that of the engine that it runs in.
ARRAY_TYPES = ("torch.Tensor", "mlx.core.array")
# Several outputs may be cut from one block, and blocks may be rounded up; a stock of results is larger.
STORAGE_FACTOR, STORAGE_SLACK = 4, 1 << 16


def check(evidence: Comparisons) -> CheckResult:
    problems, seen = [], 0
    for case in evidence.group(*GROUPS):
        for number, step in enumerate(case.steps):
            if step.judged:
                seen += 1
                problems += [f"{case.id} step {number}: {words}" for words in _step(evidence, case, number)]
    if problems:
        return failed(problems[0], calls=seen, wrong=len(problems), examples=problems[:MOST_EXAMPLES])
    return passed(calls=seen)


def _step(evidence: Comparisons, case: Case, number: int) -> Iterator[str]:
    answer = evidence.candidate.step(case, number)
    outputs = evidence.target.contract.outputs
    right = evidence.results(case, number)
    forms = answer.outputs
    if len(forms) != len(outputs) or answer.sequence != (len(outputs) > 1):
        wanted = "one tensor" if len(outputs) == 1 else f"a tuple of {len(outputs)} tensors"
        yield f"returned {'a sequence of ' if answer.sequence else ''}{len(forms)} value(s), not {wanted}"
        return
    together = sum(_needed(right[ResultName.output(place)]) for place in range(len(outputs)))
    inplace = {argument.name for argument in evidence.target.contract.args if argument.inplace}
    for place, (form, output) in enumerate(zip(forms, outputs, strict=True)):
        allowed = {f"argument {output.name}"} if output.name in inplace else set()
        for words in _problems(form, right[ResultName.output(place)], allowed, None if allowed else together):
            yield f"output {output.name} {words}"
        for words in _of_another_mode(form, case, evidence.target):
            yield f"output {output.name} {words}"
    usual = evidence.baseline.step(case, number).grads
    all_of_them = sum(_needed(right[ResultName.gradient(name)]) for name in answer.grads)
    for name, gradient in answer.grads.items():
        if gradient is not None:
            if gradient.requires_grad:
                yield f"gradient of {name} holds operations recorded for another backward pass"
            if not gradient.shares and gradient.storage_bytes > STORAGE_FACTOR * all_of_them + STORAGE_SLACK:
                stock = f"{gradient.storage_bytes} bytes, where all of them need {all_of_them}"
                yield f"gradient of {name} lies in a storage of {stock}"
            # A sum may hand its cotangent on; whoever works something out has to put it elsewhere.
            handed_on = usual.get(name)
            allowed = set(handed_on.shares) if handed_on else set()
            for words in _problems(gradient, right[ResultName.gradient(name)], allowed):
                yield f"gradient of {name} {words}"


def _problems(form: Form, right: Expected, shares: set[str], together: int | None = None) -> Iterator[str]:
    """What is wrong with one returned value. shares: memory that it may share. together: bytes that all results of the
    call need; None where the value's own storage is nobody's concern."""
    if form.type not in ARRAY_TYPES:
        yield f"is a {form.type}, not exactly a {' or '.join(ARRAY_TYPES)}"
        return
    if not form.plain:
        kind = f"layout {form.layout}, on {form.device}, dtype {form.dtype}"
        yield f"is not a plain dense tensor ({kind})"
        return
    shape = list(right.value.shape)
    if form.shape != shape:
        yield f"has shape {form.shape}, not {shape}"
        return
    if form.dtype != right.dtype:
        yield f"has dtype {form.dtype}, not {right.dtype}"
        return
    if extra := set(form.shares) - shares:
        yield f"shares its memory with {', '.join(sorted(extra))}"
    if together is not None:
        if not dense(shape, form.strides):
            yield (
                f"has strides {form.strides} for shape {shape}: its elements overlap or leave gaps, and a result fills "
                "its block of memory (contiguous() makes it, where it is part of a larger array)"
            )
        needed = _needed(right)
        if not needed <= form.storage_bytes <= STORAGE_FACTOR * together + STORAGE_SLACK:
            yield f"lies in a storage of {form.storage_bytes} bytes, where {needed} are needed"


def _of_another_mode(form: Form, case: Case, target: Target) -> Iterator[str]:
    """What only shows when somebody goes on computing with a result. Nobody differentiates an optimizer's."""
    if form.requires_grad and not case.grad and target.differentiable:
        yield f"holds operations recorded for a backward pass where no gradient can be asked for ({case.mode})"
    if form.hooked:
        yield "keeps its gradient, or has hooks or attributes, which hold memory or act for whoever goes on with it"
    if form.inference and case.mode != "inference_mode" and target.contract.phase != "optimizer":
        yield "was made in inference mode, which the caller is not in: autograd refuses to save it for backward"


def _needed(right: Expected) -> int:
    """Bytes of a result's elements."""
    return math.prod(right.value.shape) * ITEMSIZE[right.dtype]


def dense(shape: list[int], strides: list[int]) -> bool:
    """Whether the elements fill a block of memory in some order of the axes, each once; none always do."""
    if 0 in shape:
        return True
    expected = 1
    for stride, size in sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True
