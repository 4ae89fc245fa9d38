"""Whether the step is compiled: what `--compile auto` means for MLX here."""

import shutil

from autoresearch_mlx.memory import on_gpu
from autoresearch_trainer.errors import ConfigError

MODES = ("auto", "on", "off")


def resolve_compile(mode: str, device: str, steps: int | None) -> tuple[bool, str]:
    """(compile?, why) for `mode`. Raises ConfigError for an unknown mode, and for "on" where MLX cannot compile."""
    if mode not in MODES:
        raise ConfigError(f"unknown compile mode {mode!r}; known: {', '.join(MODES)}")
    if mode == "off":
        return False, "asked for"
    if on_gpu():
        return True, "asked for" if mode == "on" else "a GPU"
    if mode == "auto":
        return False, "the CPU build of MLX: compiling takes 20 s and saves a sixth of a step"
    if shutil.which("g++") is None:  # without it mx.compile silently does nothing
        raise ConfigError("--compile on: the CPU build of MLX compiles with g++, which is not installed")
    return True, "asked for"
