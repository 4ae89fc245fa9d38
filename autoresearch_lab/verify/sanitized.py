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
from autoresearch_lab.verify.sanitizer_report import Overrun, read_report

METHOD = "AddressSanitizer"
LOG = "sanitizer"
MOST_LOG_BYTES = 1 << 16
# Before it is at the first case, a process has met nothing of the kernel's but its loading.
_NOT_YET = ("start", "load")


@dataclass(frozen=True)
class Sanitized:
    """What the process came to. obstacle: why this system cannot make one, in words; answers: None then. overrun: what
    the sanitizer reported, None where it had no reason to."""

    obstacle: str | None = None
    answers: Answers | None = None
    overrun: Overrun | None = None

    @property
    def built(self) -> bool:
        """Whether the kernel loaded, so that what follows is its own doing."""
        failure = self.answers.failure if self.answers else None
        return self.answers is not None and (failure is None or failure.stage not in _NOT_YET)


def has_source(kernel: Kernel) -> bool:
    """Whether the kernel has C++ of its own that `autoresearch_cuda.native` builds."""
    return kernel.framework == "torch" and kernel.path.with_suffix(".cpp").is_file()


def run_sanitized(engine: Engine, kernel: Kernel, calls: Calls, *, run_dir: Path, seconds: float) -> Sanitized:
    """Run the cases with a sanitized kernel in a confined process; whatever that does, this returns."""
    runtime = sanitizer.runtime()
    if runtime is None:
        return Sanitized(obstacle=f"the C++ compiler of this system has no {METHOD} for Linux")
    shutil.rmtree(run_dir, ignore_errors=True)
    variables = sanitizer.environment(runtime, run_dir.resolve() / LOG)
    answers = ask(engine, kernel, calls, part="bounds", run_dir=run_dir, seconds=seconds, variables=variables)
    return Sanitized(answers=answers, overrun=_reported(run_dir, kernel))


def _reported(run_dir: Path, kernel: Kernel) -> Overrun | None:
    """The first report in the run folder. It is written in the kernel's own process, so it is only text."""
    for path in sorted(run_dir.glob(f"{LOG}.*")):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as file:
                text = file.read(MOST_LOG_BYTES).decode("utf-8", "replace")
            found = read_report(text, kernel.path.with_suffix(".cpp").name)
            if found is not None:
                return found
    return None
