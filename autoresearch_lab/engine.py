"""Engines: which there are, how one is chosen, and how a job is handed to one.

The lab never imports an engine. Work that needs a framework is a *job* (see `autoresearch_trainer.jobs`), executed by
`<package>.probe.JOBS[name]` in a process of its own (see `sandbox`).
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoresearch_common import compiler as system_compiler
from autoresearch_lab.errors import LabError
from autoresearch_lab.hardware import amd, detect, has_apple_gpu, suggest_preset
from autoresearch_lab.sandbox.parent import JobFailed, Limits, run_job
from autoresearch_trainer.jobs import AnswerRefused, Job, Progress
from autoresearch_trainer.jobs.base import A, JobArgs, R
from autoresearch_trainer.jobs.calls import CallArgs
from autoresearch_trainer.jobs.machine import CompileArgs
from autoresearch_trainer.jobs.timing import TimeArgs
from autoresearch_trainer.jobs.training import CheckArgs, EvaluateArgs, ThroughputArgs, TrainArgs
from autoresearch_trainer.probe.identity import torch_build


@dataclass(frozen=True)
class Engine:
    """One of the engines that the lab can drive.

    name: what the user types. framework: the kernels' `framework`. device: the kernels' device kind.
    package: the engine's Python package. default_preset: what is trained where none is named; in an
    engine that was chosen, the one that suits this hardware. without_gpu: of the CUDA engine, what can be done on a
    machine that has none: tensors lie on the CPU. interpreted: kernels for a GPU run on the CPU, those in Triton by
    Triton's interpreter, those in Metal compiled by the system's C++ compiler, which says whether they are right and
    nothing about a GPU.
    """

    name: str
    framework: str
    device: str
    package: str
    module: str
    default_preset: str
    without_gpu: bool = False
    interpreted: bool = False

    @property
    def job_device(self) -> str:
        """Where the tensors of this engine's jobs lie."""
        return "cpu" if self.without_gpu else self.device

    def _variables(self) -> dict[str, str]:
        return {"TRITON_INTERPRET": "1"} if self.interpreted and self.name == "cuda" else {}

    def _imported(self, args: JobArgs) -> list[str]:
        """What that job imports before anything of a kernel, and may find imported (see `sandbox.forked`). A GPU's
        driver must not start before a fork, and MLX is imported in no time."""
        if self.framework != "torch" or self.job_device != "cpu":
            return []
        modules = _imported_by_pytorch(args)
        return [*modules, "triton"] if modules and self.interpreted else modules

    def unavailable(self) -> str | None:
        """Why this engine cannot run here, in one line; None where it can."""
        extra_of_module = "cpu" if self.name == "mps" else self.name
        for needed, extra in ((self.package, None), (self.module, extra_of_module)):
            if importlib.util.find_spec(needed) is None:
                hint = f"; install it with: pip install -e '.[{extra}]'" if extra else ""
                return f"the Python package '{needed}' is not installed{hint}"
        if self.name == "cuda" and not self.without_gpu and not has_gpu():
            if gpu := amd():
                return f"{gpu.name} is here, and this PyTorch is not built for ROCm: install the build that is"
            return "no NVIDIA GPU answers (nvidia-smi finds none), and no GPU of AMD's"
        if self.name == "mps" and not has_apple_gpu():
            return "there is no Apple GPU"
        return None

    def run(
        self,
        job: Job[A, R],
        args: A,
        *,
        run_dir: Path,
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> R:
        """Execute a job of this engine in a process of its own and return its answer.

        variables: added to the environment of that process.

        Raises:
            JobFailed: the job failed (see `sandbox.parent`), or what it sent is no answer ("protocol").
        """
        given = args.model_copy(update={"device": self.job_device, "interpreted": self.interpreted})
        plain = given.model_dump(mode="json")
        raw = self.perform(
            job.name,
            plain,
            run_dir=run_dir,
            limits=limits,
            modules=self._imported(given),
            variables=variables,
            on_progress=on_progress,
        )
        try:
            return job.read(raw)
        except AnswerRefused as error:
            raise JobFailed("protocol", f"{job.name}: {error}") from None

    def perform(
        self,
        job: str,
        args: Mapping[str, Any],
        *,
        run_dir: Path,
        limits: Limits | None = None,
        modules: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Mapping[str, Any]:
        """The same with JSON at either end, which nobody has looked at.

        Raises:
            LabError: what it ran in was deleted meanwhile, so its failure is nobody's.
        """
        try:
            return run_job(
                self.package,
                job,
                args,
                run_dir=run_dir,
                limits=limits or Limits(),
                modules=modules,
                variables={**(variables or {}), **self._variables()},
                on_progress=on_progress,
            )
        except JobFailed:
            for path in (run_dir, Path(args["inputs"]) if args.get("inputs") else run_dir):
                if not path.exists():
                    raise LabError(f"{job}: {path} was deleted while the lab worked; nothing follows from it") from None
            raise


def _imported_by_pytorch(args: JobArgs) -> list[str]:
    """Of jobs that come in numbers; no more than such a job imports by itself, because calls take longer where the
    compiler is loaded, even of what is not compiled (15 us for a kernel with a backward in Python)."""
    compiler = ["torch._dynamo", "torch._inductor.compile_fx"]
    match args:
        case CallArgs():
            place, compiler, compiled = "calls", compiler[:1], any(case.compiled for case in args.cases)
        case TimeArgs():
            place, compiled = "timing", bool(args.compiled)
        case ThroughputArgs():
            place, compiled = "training", bool(args.compiled)
        case TrainArgs():
            place, compiled = "training", args.compile
        case CheckArgs():
            place, compiled = "training", any(run.compile for run in args.runs)
        case EvaluateArgs():
            place, compiled = "training", False
        case CompileArgs():
            place, compiler, compiled = "compilation", ["triton"], True
        case _:
            return []
    first_gradient = "torch.fx.experimental.symbolic_shapes"  # of which PyTorch imports it
    return [f"autoresearch_cuda.probe.{place}", first_gradient, *(compiler if compiled else ())]


ENGINES = {
    "cpu": Engine("cpu", "torch", "cpu", "autoresearch_cuda", "torch", "cpu-nano"),
    "cuda": Engine("cuda", "torch", "cuda", "autoresearch_cuda", "torch", "upstream"),
    "mlx": Engine("mlx", "mlx", "mlx", "autoresearch_mlx", "mlx", "m5-balanced"),
}
# What `train.py` can train with and the lab cannot measure: PyTorch on an Apple GPU, where kernels are MLX's.
TRAINERS = {**ENGINES, "mps": Engine("mps", "torch", "mps", "autoresearch_cuda", "torch", "m5-balanced")}


def choose(name: str) -> Engine:
    """The engine for `--engine NAME`; `auto` = mlx on Apple silicon, cuda where NVIDIA's GPU or AMD's answers, else
    cpu.

    Raises:
        LabError: the name is unknown, or that engine cannot run on this machine.
    """
    if name == "auto":
        name = automatic()
    elif name not in TRAINERS:
        raise LabError(f"unknown engine '{name}'; known: auto, {', '.join(TRAINERS)}")
    elif reason := TRAINERS[name].unavailable():
        raise LabError(f"engine {name} cannot run here: {reason}")
    return replace(TRAINERS[name], default_preset=suggest_preset(detect(name))[0])


# What runs kernels of a language without their GPU, for people.
INTERPRETERS = {"triton": "Triton's interpreter", "metal": "Metal kernels"}


def interpreter(language: str = "triton") -> Engine:
    """The engine of kernels in that language, one of INTERPRETERS, with the CPU in the GPU's place.

    Raises:
        LabError: Triton is not installed; for Metal: MLX or a C++ compiler is not.
    """
    if language == "triton":
        return replace(compiler(), interpreted=True)
    reason = ENGINES["mlx"].unavailable()
    try:
        system_compiler.find()
    except system_compiler.CompilerMissing as error:
        reason = reason or str(error)
    if reason:
        raise LabError(f"Metal kernels cannot be run on the CPU here: {reason}")
    return replace(ENGINES["mlx"], interpreted=True)


def cannot_compile(engine: Engine) -> str | None:
    """What a compiled trainer lacks on this machine; None where there is all it needs."""
    if engine.device == "cuda":
        return None  # Triton comes with PyTorch; what else may be missing, the job says
    try:
        system_compiler.find()
        if engine.framework == "torch":
            system_compiler.python_headers()  # Inductor's C++ is an extension of Python
    except (system_compiler.CompilerMissing, system_compiler.HeadersMissing) as error:
        return str(error)
    return None


def lacks_gpu(language: str) -> bool:
    """Whether kernels in that language take a GPU that this machine does not have."""
    return (language == "triton" and not has_gpu()) or (language == "metal" and not has_apple_gpu())


def compiler() -> Engine:
    """The CUDA engine for what needs Triton's compiler and no GPU.

    Raises:
        LabError: PyTorch or Triton is not installed.
    """
    engine = replace(ENGINES["cuda"], without_gpu=True)
    reason = engine.unavailable()
    if reason is None and importlib.util.find_spec("triton") is None:
        reason = "the Python package 'triton' is not installed; install it with: pip install -e '.[triton]'"
    if reason:
        raise LabError(f"Triton cannot be used here: {reason}")
    return engine


def automatic() -> str:
    """Name of the best engine of this machine."""
    if has_apple_gpu() and ENGINES["mlx"].unavailable() is None:
        return "mlx"
    return "cuda" if has_gpu() and ENGINES["cuda"].unavailable() is None else "cpu"


def has_gpu() -> bool:
    """Whether there is a GPU for the CUDA engine: NVIDIA's, or AMD's with a PyTorch that is built for it."""
    return has_nvidia_gpu() or (amd() is not None and torch_build().get("hip") is not None)


def has_nvidia_gpu() -> bool:
    """Whether the driver lists a GPU; asks the driver's own tool, so that no framework is needed."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        answer = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0 and "GPU " in answer.stdout
