"""What a kernel must leave alone: the floating-point environment, threads, torch's flags, the random state.

A library built with -ffast-math, for one, switches flush-to-zero on for the whole process when it is loaded, and so
changes the numbers of whatever else runs there.
"""

import ctypes
import hashlib
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import torch

from autoresearch_trainer.probe.native_code import loaded_libraries
from autoresearch_trainer.probe.state import State, numerics

SUBNORMAL = 2.0**-133  # below the smallest normal float32, 2^-126; a float32 itself, and so is twice as much
TINY = 2.0**-30  # far below the last place of 1
_ASKS, _OF_DEVICES = re.compile(r"_?(get|is|are)_"), re.compile("cuda|xpu|mps|mtia|accelerator|device|privateuse")
GRAIN = 32_768  # elements that torch gives to one thread before it takes another
_RUNTIME, _OPENMP = re.compile(r"lib(g|i|)omp"), ("omp_get_dynamic", "omp_get_max_active_levels")
KINDS = 3  # of sums: of subnormal numbers, a little above 1, a little below


def snapshot() -> State:
    """The state now, as plain JSON. Takes a fraction of a millisecond; calls no kernel and draws no random number."""
    flags = torch.backends
    return {
        **_arithmetic(),
        **numerics(),
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), str(torch.get_autocast_dtype("cpu"))),
        **_flags(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "autograd's threads": torch._C._is_multithreading_enabled(),
        "profiler": torch.autograd._profiler_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32 products": _answer(torch.get_float32_matmul_precision),
        "float32 products (backends)": _precisions(),
        "attention": [
            *(flags.cuda.flash_sdp_enabled(), flags.cuda.math_sdp_enabled(), flags.cuda.mem_efficient_sdp_enabled()),
            *(flags.cuda.cudnn_sdp_enabled(), flags.mha.get_fastpath_enabled()),
        ],
        "OpenMP": _openmp_settings(),
        "mkldnn": bool(flags.mkldnn.is_available() and flags.mkldnn.enabled),
        "mkldnn, always the same": bool(getattr(flags.mkldnn, "deterministic", False)),
        "nnpack": torch._C._get_nnpack_enabled(),
        "tf32": [flags.cuda.matmul.allow_tf32, flags.cudnn.allow_tf32],
        "bf16 reduction": bool(flags.cuda.matmul.allow_bf16_reduced_precision_reduction),
        "half reductions": bool(flags.cuda.matmul.allow_fp16_reduced_precision_reduction),
        "cudnn": [flags.cudnn.enabled, flags.cudnn.benchmark, flags.cudnn.deterministic],
        **_gpu_state(),
        "random state": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:16],
    }


def _flags() -> State:
    """All settings that PyTorch tells through functions without arguments."""
    return {f"torch._C.{name}": _answer(ask) for name, ask in _tellers().items()}


def _answer(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except RuntimeError:
        return "refuses to tell"  # what was set for one library alone


@cache
def _tellers() -> dict[str, Callable[[], object]]:
    """Those that answer with a plain value, by name; of devices none is asked, for that may start a driver."""
    found: dict[str, Callable[[], object]] = {}
    for name in sorted(dir(torch._C)):
        ask = getattr(torch._C, name)
        if not _ASKS.match(name) or _OF_DEVICES.search(name) or not isinstance(ask, BuiltinFunctionType):
            continue
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                answer = ask()
            except (TypeError, RuntimeError):
                continue
        if isinstance(answer, (bool, int, float, str)) and not warned:
            found[name] = ask
    return found


def _precisions() -> list[str | None]:
    """In what each library may make float32 products; None of a PyTorch that has no such setting."""
    flags: Any = torch.backends
    places = (flags, flags.mkldnn, flags.mkldnn.matmul, flags.mkldnn.conv, flags.mkldnn.rnn, flags.cuda.matmul)
    return [getattr(place, "fp32_precision", None) for place in places]


def _openmp_settings() -> list[int]:
    """Of every OpenMP runtime in this process: whether it may give fewer threads than asked for, and how deep regions
    may lie in one another."""
    return [getattr(runtime, name)() for runtime in _openmp_runtimes() for name in _OPENMP]


@cache
def _openmp_runtimes() -> list[ctypes.CDLL]:
    """Those that are loaded now; empty where the system does not list them."""
    return [ctypes.CDLL(path) for path in loaded_libraries([Path("/")]) if _RUNTIME.match(Path(path).name)]


def _arithmetic() -> State:
    """Whether every thread of torch keeps subnormal results (flush-to-zero is a setting of each thread) and rounds to
    nearest: up, down or towards zero move 1 + x or 1 - x away from 1."""
    terms, others, right, found = _sums(torch.get_num_threads())
    torch.add(terms, others, out=found)
    wrong = [False] * KINDS
    # As bits: a thread that flushes subnormal numbers takes them for zeros when it compares, too.
    if not torch.equal(found.view(torch.int32), right):
        wrong = (found.view(torch.int32) != right).view(-1, KINDS).any(0).tolist()
    return {
        "subnormals kept (torch threads)": not wrong[0],
        "rounds to nearest (torch threads)": not any(wrong[1:]),
    }


@cache
def _sums(threads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Terms of sums in turn of every kind, so many that each thread gets some; the right sums' bits; room for what is
    found. Made once, before any kernel is loaded: this is asked after every case."""
    count = GRAIN // 2 * threads
    terms, others, sums = (
        torch.tensor(values, dtype=torch.float32).repeat(count)
        for values in ([SUBNORMAL, 1.0, 1.0], [SUBNORMAL, TINY, -TINY], [2 * SUBNORMAL, 1.0, 1.0])
    )
    return terms, others, sums.view(torch.int32), torch.empty_like(terms)


def _gpu_state() -> State:
    """Of the GPU, where there is one: its random state, the stream in use, and the streams' device."""
    if not torch.cuda.is_available():
        return {}
    return {
        "random state (GPU)": hashlib.sha256(torch.cuda.get_rng_state().numpy().tobytes()).hexdigest()[:16],
        "current stream": torch.cuda.current_stream().cuda_stream,
        "current GPU": torch.cuda.current_device(),
    }
