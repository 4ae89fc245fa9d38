"""What a run reports: the numbers at its end, as data and as the block of lines that scripts grep."""

from autoresearch_trainer.checks import checked_lines
from autoresearch_trainer.ops import CallCounter, Ops
from autoresearch_trainer.record import CheckedKernels, KernelCalls, RunRecord, Summary
from autoresearch_trainer.train import UNTIMED_STEPS, TrainerBase

# Peak rates that makers state for chips: dense bfloat16 matrix products, in FLOP/s, without sparsity, by the name that
# the driver reports. Only chips whose figure is certain. A rate is a property of one board: cards that share a chip's
# name but not its clocks are listed apart or left out.
_STATED_FLOPS = {
    "NVIDIA H200": 989.5e12,
    "NVIDIA H100 80GB HBM3": 989.5e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA GeForce RTX 4090": 165.2e12,
    "NVIDIA GeForce RTX 3090": 71e12,
    "AMD Instinct MI300X": 1307.4e12,
    "AMD Instinct MI325X": 1307.4e12,
}
_MEMORY = {
    "cuda": "allocated on the GPU",
    "cpu": "resident (no GPU)",
    "mlx": "allocated by MLX",
    "mps": "held by Metal, at the end",
}


def kernel_calls(ops: Ops, counter: CallCounter) -> dict[str, KernelCalls]:
    """Per target its kernel and how often it was called."""
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


def datasheet_flops(device_name: str, compute_dtype: str = "bfloat16") -> float | None:
    """FLOP/s of the chip of that name; None = unknown."""
    return _STATED_FLOPS.get(device_name) if compute_dtype == "bfloat16" else None


def throughput(step_seconds: list[float], tokens_per_step: int) -> tuple[float | None, int]:
    """(tokens per second, steps it rests on): the steps after the first 11, or after the first in a shorter run."""
    counted = step_seconds[UNTIMED_STEPS if len(step_seconds) > UNTIMED_STEPS else 1 :]
    total = sum(counted)
    return (tokens_per_step * len(counted) / total if total > 0 else None), len(counted)


def summarise(
    trainer: TrainerBase,
    step_seconds: list[float],
    val_bpb: float | None,
    total_seconds: float,
    peak_memory_mb: float,
    device_name: str,
) -> Summary:
    """The summary's numbers.

    MFU (share of the peak rate that the model's FLOP make up): "measured" against config.peak_flops, the ceiling
    measured on this machine, "datasheet" against the chip's stated rate; None = that is unknown. mfu_percent is what
    upstream prints, against the datasheet, and the other one where there is none.
    """
    config, counts = trainer.config, trainer.model.parameter_counts()
    tokens_per_second, timed_steps = throughput(step_seconds, config.total_batch_tokens)
    rate = trainer.model.flops_per_token() * tokens_per_second if tokens_per_second else None
    stated = datasheet_flops(device_name, config.compute_dtype)
    measured = _percent(rate, config.peak_flops)
    datasheet = _percent(rate, stated)
    return {
        "val_bpb": val_bpb,
        "training_seconds": trainer.training_seconds,
        "total_seconds": total_seconds,
        "peak_vram_mb": peak_memory_mb,
        "mfu_percent": datasheet if datasheet is not None else measured,
        "mfu_measured_percent": measured,
        "mfu_datasheet_percent": datasheet,
        "datasheet_flops": stated,
        "total_tokens_M": trainer.steps_done * config.total_batch_tokens / 1e6,
        "num_steps": trainer.steps_done,
        "num_params_M": counts["total"] / 1e6,
        "depth": config.model.n_layer,
        "tokens_per_second": tokens_per_second,
        "timed_steps": timed_steps,
        "epoch": trainer.epoch,
    }


def _percent(rate: float | None, peak: float | None) -> float | None:
    return 100 * rate / peak if rate and peak else None


def mfu_lines(record: RunRecord) -> dict[str, str]:
    """Both MFUs in words: a zero in mfu_percent can mean unknown."""
    summary, config = record["summary"], record["config"]

    def line(percent: float | None, peak: float | None, what: str, unknown: str) -> str:
        if not peak:
            return f"unknown ({unknown})"
        return f"{percent or 0.0:.2f} % of {peak / 1e12:.3f} TFLOP/s {what}"

    measure = f"kernel-lab.py --engine {record['device']['kind']} profile measures the ceiling"
    return {
        "mfu_measured": line(summary["mfu_measured_percent"], config["peak_flops"], "measured here", measure),
        "mfu_datasheet": line(
            summary["mfu_datasheet_percent"], summary["datasheet_flops"], "stated", "no figure for this chip"
        ),
    }


def summary_lines(record: RunRecord) -> list[str]:
    """The block printed at the end: a line of three dashes, the research loop's nine keys, then this project's own."""
    summary = record["summary"]

    def number(value: float | None, digits: int) -> str:
        return f"{value or 0.0:.{digits}f}"

    lines = {
        "val_bpb": number(summary["val_bpb"], 6),
        "training_seconds": number(summary["training_seconds"], 1),
        "total_seconds": number(summary["total_seconds"], 1),
        "peak_vram_mb": number(summary["peak_vram_mb"], 1),
        "mfu_percent": number(summary["mfu_percent"], 2),
        "total_tokens_M": number(summary["total_tokens_M"], 1),
        "num_steps": str(summary["num_steps"]),
        "num_params_M": number(summary["num_params_M"], 1),
        "depth": str(summary["depth"]),
        "tokens_per_second": number(summary["tokens_per_second"], 0),
        **mfu_lines(record),
        "preset": record["config"]["preset"],
        "batch": _batch(record),
        "evaluation": _evaluation(record),
        "seed": str(record["config"]["seed"]),
        "memory": _MEMORY[record["device"]["kind"]],
        "device": f"{record['device']['kind']} ({record['device']['name']})",
        "dataset": f"{record['dataset']['name']} {record['dataset']['fingerprint'][:12]}",
        "compiled": _compiled(record),
        "attention": record["attention"],
        "first_step": f"{record['seconds_to_first_step'] or 0.0:.1f} s after the process began",
        "threads": str(record["process"]["threads"]),
        "allocator": record["process"]["allocator"],
    }
    if record.get("checkpoints"):
        lines["checkpoints"] = _checkpoints(record)
    block = ["---", *(f"{key + ':':<18}{value}" for key, value in lines.items())]
    for target, kernel in record["kernels"].items():
        calls = f"{kernel['calls']} calls"
        if kernel["traced_calls"]:
            calls += f", {kernel['traced_calls']} in compiled code (counted while tracing)"
        block.append(f"{'kernel:':<18}{target}={kernel['name']} {kernel['sha256'][:12]} {calls}")
    if "checked" in record:
        block += [f"{'checked:':<18}{line}" for line in _checked(record["checked"], sum(record["step_seconds"]))]
    return block


def _checked(checked: CheckedKernels, step_seconds: float) -> list[str]:
    """What checking in place found, and what it cost; a line for each kernel."""
    if not checked["targets"]:
        return ["nothing: every kernel is the baseline's"]
    share = f", {checked['seconds'] / step_seconds:.1%} of the steps' time" if step_seconds else ""
    return [*checked_lines(checked), f"took {checked['seconds']:.1f} s{share}"]


def _compiled(record: RunRecord) -> str:
    why = next((choice["why"] for choice in record["choices"] if choice["name"] == "compile"), None)
    return ("yes" if record["config"]["compile"] else "no") + (f" ({why})" if why else "")


def _batch(record: RunRecord) -> str:
    config = record["config"]
    length = config["model"]["sequence_len"]
    passes = config["total_batch_tokens"] // (config["batch_size"] * length)
    times = f" x {passes} passes" if passes > 1 else ""
    return f"{config['batch_size']} x {length} tokens{times} per step"


def _evaluation(record: RunRecord) -> str:
    """How sure val_bpb is; in comparisons of runs on the same tokens nearly all of that error cancels."""
    result = record["evaluation"]
    if not result:
        return "none"
    error, over = result["standard_error"], record["config"]["eval_spread_over"]
    where = f" spread over {over}" if over else ""
    return f"{result['tokens']} tokens{where}" + (f", standard error {error:.4f} bpb" if error is not None else "")


def _checkpoints(record: RunRecord) -> str:
    costs, seconds = record["checkpoints"], sum(record["step_seconds"])
    share = 100 * costs["copy_seconds"] / seconds if seconds else 0.0
    skipped = f", {costs['skipped']} left out" if costs["skipped"] else ""
    return f"{costs['written']} written{skipped}; copying took {share:.2f} % of the steps' time"
