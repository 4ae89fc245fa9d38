"""What a job is: a name, the type of its arguments and the type of its answer; and the pieces that several share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from autoresearch_common.workload import ArraySpec, CapturedWorkload, Sample, ScalarSpec, check_spec
from autoresearch_trainer.kernel_files import KernelFile

MOST_TEXT = 1 << 16


class JobArgs(BaseModel):
    """Arguments of a job. device: where its tensors lie ("cpu", "cuda", "mlx"); interpreted: kernels for a GPU run on
    the CPU. The lab's engine sets both."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    device: str = "cpu"
    interpreted: bool = False


class JobAnswer(BaseModel):
    """An answer, or a part of one. It may come from a kernel's own process, so nothing is converted, nothing is added
    and no number is NaN or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


class Progress(TypedDict, total=False):
    """What a job says meanwhile. stage: what it is at, for people; done, total: how far it is there.

    case: id of the case that `call` begins. seconds: since `time` began to measure. id: of the training at work. run,
    evaluation: one finished result of `train` and `evaluate`, as JSON. unenforced: what of its confinement the system
    does not enforce. left: names of processes that the job had started and left behind. process: the number of the
    process, from 1, of so many processes as are needed at present. expected: seconds that all of them will take at
    least. about: whose work it is, as who hands the message on knows it.
    """

    stage: str
    done: float
    total: float
    case: str
    seconds: float
    id: str
    run: dict[str, JsonValue]
    evaluation: dict[str, JsonValue]
    unenforced: list[str]
    left: list[str]
    process: int
    processes: int
    expected: float
    about: str


Report = Callable[[Progress], None]


def printable(text: str) -> str:
    """Every control character but the line's end replaced by a space: what a kernel says ends up on a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else " " for c in text)


# Words from an engine's process.
Text = Annotated[str, StringConstraints(max_length=MOST_TEXT), AfterValidator(printable)]
# Name of a file in the run folder; never a path to somewhere else.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_. -]{0,200}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
# Settings of a process or facts of a device: kept in records, compared, never interpreted.
Facts = dict[Text, JsonValue]


def facts(described: Mapping[str, object]) -> Facts:
    """What an engine says of its process or device, as an answer carries it."""
    return cast(Facts, dict(described))


Scalar = bool | int | float | str
Dtype = Literal["float64", "float32", "float16", "bfloat16", "int64", "int32", "bool"]
# {target: kernel} that a trainer runs with.
Selection = dict[str, KernelFile]


class DatasetRef(BaseModel):
    """A prepared dataset as an A/B asks for it: its folder, and the fingerprint that it must still have."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = ""
    folder: str
    fingerprint: str


class DatasetUsed(JobAnswer):
    """The dataset that a job trained on."""

    name: Text
    fingerprint: Text


class KernelUsed(JobAnswer):
    """A kernel that a job ran, by name and content hash."""

    name: Text
    sha256: Text


# Arrives from another process: what it does not know, it refuses.
for known in (ArraySpec, ScalarSpec, Sample, CapturedWorkload):
    with_config(ConfigDict(extra="forbid"))(known)


Spec = Annotated[ArraySpec | ScalarSpec, Field(discriminator="kind"), AfterValidator(check_spec)]

A = TypeVar("A", bound=JobArgs)
R = TypeVar("R", bound=JobAnswer)


class AnswerRefused(ValueError):
    """What a process sent is not an answer of its job; one line says where it is wrong."""


@dataclass(frozen=True)
class Job(Generic[A, R]):
    """A kind of job."""

    name: str
    args: type[A]
    answer: type[R]

    def read(self, value: object) -> R:
        """The answer that a process sent, as JSON.

        Raises:
            AnswerRefused: a field is missing, unknown, of another type, too large, or not a number.
        """
        try:
            return self.answer.model_validate(value)
        except ValidationError as error:
            raise AnswerRefused(f"the answer cannot be read: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """Where a value has another form than it should, in one line."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place: Any = ".".join(str(part) for part in found["loc"])
    return printable(f"{place}: {found['msg']}"[:300]).replace("\n", " ")
