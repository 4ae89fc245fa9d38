"""Whether the model is compiled: what `--compile auto` means on this machine, and for a run of this length."""

from autoresearch_cuda.native import compiler
from autoresearch_trainer.errors import ConfigError, KernelError

MODES = ("auto", "on", "off")
# On a CPU compiling takes 15 s (from Inductor's cache) to 90 s, none of which counts towards the time budget; a run
# shorter than that is over sooner without it.
SHORTEST_SECONDS, SHORTEST_STEPS = 60.0, 300


def resolve_compile(mode: str, device: str, time_budget: float | None, steps: int | None) -> tuple[bool, str]:
    """(compile?, why) for `mode` on `device` ("cuda" or "cpu") and a run of `time_budget` seconds or `steps` steps.

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
    if mode == "on":
        return True, "asked for"
    if (steps is not None and steps < SHORTEST_STEPS) or (time_budget is not None and time_budget < SHORTEST_SECONDS):
        return False, f"a run of less than {SHORTEST_STEPS} steps or {SHORTEST_SECONDS:.0f} s ends sooner without"
    return True, f"C++ compiler found: {name}"
