"""Whether the model is compiled: what `--compile auto` means on this machine."""

from autoresearch_common.compiler import HeadersMissing, python_headers
from autoresearch_cuda.native import compiler
from autoresearch_trainer.errors import ConfigError, KernelError
from autoresearch_trainer.train import UNTIMED_STEPS

MODES = ("auto", "on", "off")


def resolve_compile(mode: str, device: str, steps: int | None) -> tuple[bool, str]:
    """(compile?, why) for `mode` on `device` ("cuda" or "cpu") and a run of so many steps (None: as time allows).

    Raises ConfigError for an unknown mode, and for "on" where there is nothing to compile with.
    """
    if mode not in MODES:
        raise ConfigError(f"unknown compile mode {mode!r}; known: {', '.join(MODES)}")
    if mode == "off":
        return False, "asked for"
    if device == "cuda":
        return True, "asked for" if mode == "on" else "a GPU"
    try:
        name = compiler()
    except KernelError as error:
        if mode == "on":
            raise ConfigError(f"--compile on: {error}") from error
        return False, "no C++ compiler"
    try:
        python_headers()  # Inductor's C++ is an extension of Python
    except HeadersMissing as error:
        if mode == "on":
            raise ConfigError(f"--compile on: {error}") from error
        return False, str(error)
    if mode == "on":
        return True, "asked for"
    if steps is not None and steps <= UNTIMED_STEPS:
        return False, "too few steps for any to be timed"
    return True, f"C++ compiler found: {name}"
