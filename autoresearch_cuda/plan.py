"""What is asked of this engine before it trains. On a CPU that takes no PyTorch, whose import takes longer than all
else: `train.py --print-config` and bad input are answered without it.
"""

from autoresearch_common.compiler import CompilerMissing, HeadersMissing, find, python_headers
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.memory import system_bytes
from autoresearch_trainer.train import COMPILE_MODES, UNTIMED_STEPS

CPU_PATH = "batched products and softmax; one bias per shape, built once"
INSTALLED = "the fastest that is installed for this device"


def describe_attention(device: str, dtype: str, kernel: str = "torch_eager") -> tuple[str, str]:
    """(the path that attention takes, why, and what to install for a faster one). `kernel`: the one selected for
    windowed_attention."""
    if kernel != "torch_eager":
        return f"kernel {kernel}", "selected"
    if device != "cuda":
        return CPU_PATH, INSTALLED
    from autoresearch_cuda.attention import describe_on_gpu

    path, more = describe_on_gpu(dtype)
    return path, "; ".join([INSTALLED, *more])


def available_bytes(device: str) -> int:
    """Free memory: of the GPU, or of the system within this process's control group. An Apple GPU shares the system's,
    as far as Metal lets it."""
    if device == "cpu":
        return system_bytes()
    import torch

    if device == "mps":
        return min(system_bytes(), torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return torch.cuda.mem_get_info()[0]


def resolve_compile(mode: str, device: str, steps: int | None) -> tuple[bool, str]:
    """(compile?, why) for `mode` on `device` ("cuda", "mps", "cpu") and a run of so many steps (None: as time allows).

    Raises ConfigError for an unknown mode, for "on" where there is nothing to compile with, and where PyTorch does not
    reach the Apple GPU.
    """
    if mode not in COMPILE_MODES:
        raise ConfigError(f"unknown compile mode {mode!r}; known: {', '.join(COMPILE_MODES)}")
    if device == "mps":
        import torch

        if not torch.backends.mps.is_available():
            raise ConfigError("PyTorch reaches no MPS device (an old macOS, or a build of torch without MPS)")
        if mode == "on":
            raise ConfigError("--compile on: training on MPS is uncompiled; --engine mlx compiles")
        return False, "MPS: uncompiled"
    if mode == "off":
        return False, "asked for"
    if device == "cuda":
        return True, "asked for" if mode == "on" else "a GPU"
    try:
        (name, *_), _ = find()
    except CompilerMissing as error:
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
