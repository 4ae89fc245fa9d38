"""What a run reports: the numbers at its end, as data and as the block of lines that scripts grep."""

from typing import Any

from autoresearch_cuda.ops import CallCounter, Ops
from autoresearch_cuda.train import UNTIMED_STEPS, Trainer


def kernel_calls(ops: Ops, counter: CallCounter) -> dict[str, dict[str, Any]]:
    """Per target its kernel, content hash and calls. `traced_calls`: those seen once, while torch.compile traced."""
    return {
        target: {
            "name": file.name,
            "sha256": file.sha256,
            "path": file.path,
            "calls": counter.eager[target],
            "traced_calls": counter.traced[target],
        }
        for target, file in ops.kernels.items()
    }


def throughput(step_seconds: list[float], tokens_per_step: int) -> tuple[float | None, int]:
    """(tokens per second, steps it rests on): the steps after the first 11, or after the first in a shorter run."""
    counted = step_seconds[UNTIMED_STEPS if len(step_seconds) > UNTIMED_STEPS else 1 :]
    total = sum(counted)
    return (tokens_per_step * len(counted) / total if total > 0 else None), len(counted)


def summarise(
    trainer: Trainer, step_seconds: list[float], val_bpb: float | None, total_seconds: float, peak_memory_mb: float
) -> dict[str, Any]:
    """The summary's numbers. mfu_percent is None where the machine's ceiling is unknown."""
    config, counts = trainer.config, trainer.model.parameter_counts()
    tokens_per_second, timed_steps = throughput(step_seconds, config.total_batch_tokens)
    flops = trainer.model.flops_per_token()
    known = config.peak_flops and tokens_per_second
    return {
        "val_bpb": val_bpb,
        "training_seconds": trainer.training_seconds,
        "total_seconds": total_seconds,
        "peak_vram_mb": peak_memory_mb,
        "mfu_percent": 100 * flops * tokens_per_second / config.peak_flops if known else None,
        "total_tokens_M": trainer.steps_done * config.total_batch_tokens / 1e6,
        "num_steps": trainer.steps_done,
        "num_params_M": counts["total"] / 1e6,
        "depth": config.model.n_layer,
        "tokens_per_second": tokens_per_second,
        "timed_steps": timed_steps,
        "epoch": trainer.epoch,
    }


def summary_lines(record: dict[str, Any]) -> list[str]:
    """The block printed at the end: a line of three dashes, the research loop's nine keys, then this project's own."""
    summary = record["summary"]

    def number(key: str, digits: int) -> str:
        return f"{summary[key] or 0.0:.{digits}f}"

    lines = {
        "val_bpb": number("val_bpb", 6),
        "training_seconds": number("training_seconds", 1),
        "total_seconds": number("total_seconds", 1),
        "peak_vram_mb": number("peak_vram_mb", 1),
        "mfu_percent": number("mfu_percent", 2),
        "total_tokens_M": number("total_tokens_M", 1),
        "num_steps": str(summary["num_steps"]),
        "num_params_M": number("num_params_M", 1),
        "depth": str(summary["depth"]),
        "tokens_per_second": number("tokens_per_second", 0),
        "preset": record["config"]["preset"],
        "seed": str(record["config"]["seed"]),
        "memory": "allocated on the GPU" if record["device"]["kind"] == "cuda" else "resident (no GPU)",
        "device": f"{record['device']['kind']} ({record['device']['name']})",
        "dataset": f"{record['dataset']['name']} {record['dataset']['fingerprint'][:12]}",
        "compiled": "yes" if record["config"]["compile"] else "no",
        "threads": str(record["process"]["threads"]),
        "allocator": record["process"]["allocator"],
    }
    block = ["---", *(f"{key + ':':<18}{value}" for key, value in lines.items())]
    for target, kernel in record["kernels"].items():
        calls = f"{kernel['calls']} calls"
        if kernel["traced_calls"]:
            calls += f", {kernel['traced_calls']} in compiled code (counted while tracing)"
        block.append(f"{'kernel:':<18}{target}={kernel['name']} {kernel['sha256'][:12]} {calls}")
    return block
