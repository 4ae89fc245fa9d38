"""Job `call`: one kernel on given inputs. What came out travels as bytes in a file and as a description of its form.

Arrays in the answer's file are named `<case id>/<step>/<result>`; a `ResultName` says which result of a call it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from autoresearch_trainer.jobs.base import Count, Job, JobAnswer, JobArgs, Scalar, Spec, Text
from autoresearch_trainer.kernel_files import KernelFile

OUTPUTS = "outputs.safetensors"
# The type of what a case is said to have raised where the framework's compiler does not take the kernel.
NOT_COMPILED = "NotCompiled"
# Of an optimizer's kernel: the arguments that count its steps.
COUNTED = ("step",)


@dataclass(frozen=True, order=True)
class ResultName:
    """Which result of a call: an output by its place, or the same of a call with these contents as an evaluation or a
    training step makes it, whichever this one is not; or by an argument's name its gradient, the gradient of a second
    backward, or the argument's own values afterwards where it is updated in place. `str` gives the name in files."""

    kind: Literal["output", "turned", "gradient", "second_gradient", "argument"]
    which: int | str

    @classmethod
    def output(cls, place: int) -> ResultName:
        return cls("output", place)

    @classmethod
    def gradient(cls, argument: str) -> ResultName:
        return cls("gradient", argument)

    @classmethod
    def argument(cls, name: str) -> ResultName:
        return cls("argument", name)

    @property
    def again(self) -> ResultName:
        """Of a gradient: the same from a second backward."""
        return ResultName("second_gradient", self.which)

    @property
    def turned(self) -> ResultName:
        """Of an output: the same of the other turn."""
        return ResultName("turned", self.which)

    @property
    def once(self) -> ResultName:
        """The same of the call itself, once."""
        return ResultName(_ONCE.get(self.kind, self.kind), self.which)

    @classmethod
    def parse(cls, text: str) -> ResultName:
        """From its name in a file. Raises ValueError for any other text."""
        prefix, _, argument = text.partition(".")
        if prefix in _KINDS and argument:
            return cls(_KINDS[prefix], argument)
        for kind, start in _PLACES.items():
            if text.startswith(start) and text[len(start) :].isdecimal():
                return cls(kind, int(text[len(start) :]))
        raise ValueError(f"not the name of a result: {text!r}")

    def __str__(self) -> str:
        return f"{_PLACES[self.kind]}{self.which}" if self.kind in _PLACES else f"{_PREFIXES[self.kind]}.{self.which}"

    def words(self) -> str:
        """For people."""
        if self.kind == "output":
            return f"output {self.which}"
        if self.kind == "turned":
            return f"output {self.which} with gradients where the call has none, or without"
        if self.kind == "argument":
            return f"argument {self.which}"
        return f"gradient of {self.which}" + (" (second backward)" if self.kind == "second_gradient" else "")

    def key(self, case: str, step: int) -> str:
        """The array's name in the answer's file."""
        return f"{case}/{step}/{self}"


_ONCE: dict[str, Literal["output", "gradient"]] = {"turned": "output", "second_gradient": "gradient"}
_PLACES: dict[Literal["output", "turned"], str] = {"output": "out", "turned": "turn"}
_PREFIXES: dict[str, str] = {"gradient": "grad", "second_gradient": "again", "argument": "in"}
_KINDS: dict[str, Literal["gradient", "second_gradient", "argument"]] = {
    "grad": "gradient",
    "again": "second_gradient",
    "in": "argument",
}


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# The context of a call: differentiated as it is; its arguments not leaves of the graph; other calls between forward and
# backward; under torch.utils.checkpoint; or nothing differentiated, as no argument wants a gradient, or by a mode.
Mode = Literal[
    "plain", "not a leaf", "interleaved", "checkpointed", "nothing wanted", "no_grad", "inference_mode"
]  # fmt: skip


class CallStep(_Asked):
    """One call. contents: what the names of its arrays in the inputs' file begin with; cotangents: likewise, null where
    no gradients are asked for. scalars: values that replace those of the specs. layout: of the cotangents, see
    `forms.layout_of` of the engine. again: backward runs twice. pattern: every byte of fresh memory. repeats: how often
    the call is made once more, while there is time. as_arrays: scalars that a trainer of this engine hands to a kernel
    as arrays are arrays."""

    contents: str
    scalars: dict[str, Scalar] = {}
    cotangents: str | None = None
    layout: str = "contiguous"
    again: bool = False
    pattern: int = Field(ge=0, le=255)
    repeats: int = Field(default=0, ge=0, le=100_000)
    as_arrays: bool = False


class CallCase(_Asked):
    """Some calls on one set of arguments, at fixed addresses where the framework has such. grad: arguments that get
    gradients; inplace: those that the contract lets a kernel update. compiled: it goes through the framework's
    compiler. spied: the framework's operators are counted. leaves: arguments that want a gradient as parameters do,
    though none is asked for. held: what wants a gradient holds one already, as where several batches are added up;
    gathered: it gathers its gradient, as backward() has it, where there is no second backward, and what is updated
    holds the gradient that is handed in. threads: how many the framework has, 0 for as many as ever. same: two
    arguments that are one array. together: arguments that lie in one block, in which their strides and offsets are.
    onward: so many steps of an optimizer follow each call, on what it left and without a gradient. turns: before every
    step the kernel is called as an evaluation or a training step calls it, whichever the case is not, with the
    arguments as they still are, before the first as they are then. A step that is null is left out, so that numbers
    stay the same."""

    id: str
    args: list[Spec]
    grad: list[str]
    inplace: list[str]
    spied: bool
    steps: list[CallStep | None]
    mode: Mode = "plain"
    compiled: bool = False
    leaves: list[str] = []
    held: bool = False
    gathered: bool = False
    threads: int = Field(default=0, ge=0, le=64)
    same: list[str] = []
    together: list[str] = []
    onward: int = Field(default=0, ge=0, le=64)
    turns: bool = False


class CallArgs(JobArgs):
    """inputs: path of the safetensors file with the contents. noop: the kernel's native functions do nothing."""

    kernel: KernelFile
    inputs: str
    cases: list[CallCase]
    noop: bool = False


class Parameter(JobAnswer):
    """A parameter of the kernel's function; kind as `inspect` names it, such as "POSITIONAL_OR_KEYWORD"."""

    name: Text
    kind: Text


class Raised(JobAnswer):
    """An exception: its class, the first line of its message, file and line."""

    type: Text
    message: Text
    where: Text = ""


class Form(JobAnswer):
    """The form of one returned value. plain: an ordinary dense array whose bytes may be read; of others not all is
    known. type: module and class. strides in elements; offset into the storage in elements; storage_bytes: of all the
    memory behind it. shares: arguments and earlier outputs whose memory it uses. wrapped, lazy, requires_grad,
    inference (made in inference mode), hooked (keeps its gradient, has hooks or attributes): of PyTorch's tensors."""

    type: Text
    plain: bool
    layout: Text | None = None
    dtype: Text | None = None
    shape: list[Count] = []
    device: Text | None = None
    strides: list[int] = []
    offset: Count = 0
    storage_bytes: Count = 0
    shares: list[Text] = []
    wrapped: bool = False
    lazy: bool = False
    requires_grad: bool = False
    inference: bool = False
    hooked: bool = False


class StepAnswer(JobAnswer):
    """What one call gave. sequence: a tuple or list came back. grads: forms by argument, null = missing. again: "done"
    after a second backward, or the error that refused it. changed: arguments (and in words what else, such as
    "cotangent 0" or "x's shape") that are not what they were. altered: outputs that did not stay as they were returned.
    repeated: calls made once more with the same contents; strayed: those of them that gave other bits than the first;
    late: of those the ones that were made as a day later in a training. leaked: bytes by which the memory in use grew
    with each repeated call, 0 where it did not. crossed: of many calls in flight at once those that gave other bits
    than by themselves; followed: likewise of calls each on what the one before left. apart: whether arguments that
    an operator returned give other bits than leaves."""

    outputs: list[Form] = []
    sequence: bool = False
    grads: dict[Text, Form | None] = {}
    again: Text | None = None
    changed: list[Text] = []
    altered: list[Text] = []
    repeated: Count = 0
    strayed: Count = 0
    late: Count = 0
    leaked: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    crossed: Count = 0
    followed: Count = 0
    apart: bool = False


class CaseAnswer(JobAnswer):
    """What one case gave. error: what ended it, null where it came to its end. steps: null for those left out.
    operators: {name: how often it ran} in forward, where they were counted; backward_operators: in backward."""

    id: Text
    error: Raised | None = None
    steps: list[StepAnswer | None] = []
    operators: dict[Text, Count] | None = None
    backward_operators: dict[Text, Count] | None = None


class NoopAnswer(JobAnswer):
    """Native functions with a stand-in that does nothing, and how often those were called."""

    functions: list[Text]
    calls: Count


class Configuration(JobAnswer):
    """The configuration that a tuned Triton kernel ran with. key: values of the key arguments, then dtypes."""

    kernel: Text
    key: list[Text]
    config: dict[Text, Scalar | None]


class CallAnswer(JobAnswer):
    """signature: of the kernel's function, or why there is no telling. loaded, changed: what of the process loading and
    calling it changed, in words. native: libraries, and languages of kernels, that it brought along. launches: of Metal
    kernels on the CPU by build, null elsewhere."""

    signature: list[Parameter] | Text
    loaded: list[Text]
    changed: list[Text]
    native: list[Text]
    noop: NoopAnswer
    cases: list[CaseAnswer]
    configurations: list[Configuration] = []
    launches: dict[Text, Count] | None = None


CALL = Job("call", CallArgs, CallAnswer)
