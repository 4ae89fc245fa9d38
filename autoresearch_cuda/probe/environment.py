"""What a kernel must leave alone: the floating-point environment, threads, torch's flags, the random state.

A library built with -ffast-math, for one, switches flush-to-zero on for the whole process when it is loaded, and so
changes the numbers of whatever else runs there.
"""

import hashlib

import torch

from autoresearch_trainer.probe.state import State, numerics

ULP = 2.0**-23  # of 1 in float32
SUBNORMAL = 1e-40  # below the smallest normal float32, 1.2e-38
GRAIN = 32_768  # elements that torch gives to one thread before it takes another


def snapshot() -> State:
    """The state now, as plain JSON. About 0.2 ms on two cores; calls no kernel and draws no random number."""
    flags = torch.backends
    return {
        "subnormals kept (torch threads)": _subnormals_kept(),
        "rounding to nearest (torch threads)": _rounds_to_nearest(),
        **numerics(),
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "anomaly mode": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32 products": torch.get_float32_matmul_precision(),
        "mkldnn": bool(flags.mkldnn.is_available() and flags.mkldnn.enabled),
        "tf32": [flags.cuda.matmul.allow_tf32, flags.cudnn.allow_tf32],
        "bf16 reduction": bool(flags.cuda.matmul.allow_bf16_reduced_precision_reduction),
        "half reductions": bool(flags.cuda.matmul.allow_fp16_reduced_precision_reduction),
        "cudnn": [flags.cudnn.enabled, flags.cudnn.benchmark, flags.cudnn.deterministic],
        **_gpu_state(),
        "random state": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()[:16],
    }


def _subnormals_kept() -> bool:
    """Whether every thread of torch keeps subnormal results; flush-to-zero is a setting of each thread."""
    count = 2 * GRAIN * torch.get_num_threads()
    small = torch.full((count,), SUBNORMAL, dtype=torch.float32)
    return bool(torch.count_nonzero(small * 0.5) == count)


def _rounds_to_nearest() -> bool:
    """Whether every thread of torch does: the rounding mode is a setting of each thread, too."""
    count = 2 * GRAIN * torch.get_num_threads()
    ones = torch.ones(count, dtype=torch.float32)
    up, down = ones + 0.75 * ULP, ones + 0.25 * ULP
    return bool(torch.count_nonzero(up == 1.0 + ULP) + torch.count_nonzero(down == 1.0) == 2 * count)


def _gpu_state() -> State:
    """Of the GPU, where there is one: its random state, the stream in use, and the streams' device."""
    if not torch.cuda.is_available():
        return {}
    return {
        "random state (GPU)": hashlib.sha256(torch.cuda.get_rng_state().numpy().tobytes()).hexdigest()[:16],
        "current stream": torch.cuda.current_stream().cuda_stream,
        "current GPU": torch.cuda.current_device(),
    }
