"""One more process for the candidate, in which its C++ is built with AddressSanitizer and stops at the first access
outside of a block."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from autoresearch_common import sanitizer
from autoresearch_lab.catalog import Kernel
from autoresearch_lab.engine import Engine
from autoresearch_lab.verify.exchange import Answers, Calls, ask
from autoresearch_lab.verify.sanitizer_report import Overrun, read_report, sanitizer_trouble

METHOD = "AddressSanitizer"
LOG = "sanitizer"
MOST_LOG_BYTES = 1 << 16


@dataclass(frozen=True)
class Sanitized:
    """What the process came to. obstacle: why it says nothing about the kernel, in words; nothing else is there then.
    overrun: what the sanitizer reported, None where it had no reason to."""

    obstacle: str | None = None
    answers: Answers | None = None
    overrun: Overrun | None = None

    @property
    def killed(self) -> bool:
        """Whether something else ended it."""
        return self.answers is not None and self.answers.failure is not None and self.answers.failure.kind == "killed"

    @property
    def built(self) -> bool:
        """Whether the kernel loaded, so that what follows is its own doing."""
        failure = self.answers.failure if self.answers else None
        return self.answers is not None and (failure is None or not failure.at_load)


def has_source(engine: Engine, kernel: Kernel) -> bool:
    """Whether the kernel has C++ of its own that `autoresearch_cuda.native` builds, and runs it on this engine."""
    on_cpu = engine.framework == "torch" and engine.job_device == "cpu"
    return on_cpu and kernel.path.with_suffix(".cpp").is_file()


def run_sanitized(engine: Engine, kernel: Kernel, calls: Calls, *, run_dir: Path, seconds: float) -> Sanitized:
    """Run the cases with a sanitized kernel in a confined process; whatever that does, this returns."""
    libraries = sanitizer.runtime()
    if not libraries:
        return Sanitized(obstacle=f"the C++ compiler of this system has no {METHOD} for Linux")
    shutil.rmtree(run_dir, ignore_errors=True)
    variables = sanitizer.environment(libraries, run_dir.resolve() / LOG)
    answers = ask(engine, kernel, calls, part="bounds", run_dir=run_dir, seconds=seconds, variables=variables)
    text = _log(run_dir)
    trouble = sanitizer_trouble(text)
    if trouble is not None:
        return Sanitized(obstacle=f"{METHOD} itself fails: {trouble}")
    return Sanitized(answers=answers, overrun=read_report(text, kernel.path.with_suffix(".cpp").name))


def _log(run_dir: Path) -> str:
    """What the sanitizer wrote, empty where it had no reason to. The kernel's process may have: it is only text."""
    for path in sorted(run_dir.glob(f"{LOG}.*")):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                return file.read(MOST_LOG_BYTES).decode("utf-8", "replace")
    return ""
