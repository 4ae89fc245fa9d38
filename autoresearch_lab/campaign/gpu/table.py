"""The short table that the plan for a GPU prints last."""

from __future__ import annotations

from autoresearch_lab.campaign.gpu.formats import gain, outcomes, percent, ratio
from autoresearch_lab.campaign.gpu.result import (
    Benched,
    BenchFound,
    BigRows,
    GpuResult,
    GpuTests,
    Trained,
    Tried,
    Verified,
    VerifyFound,
)

NUMBERS = {
    "tokens_per_second": "{:,.0f} tokens/s",
    "peak_vram_mb": "{:,.0f} MiB",
    "mfu_percent": "MFU {:.1f} %",
    "val_bpb": "val_bpb {:.4f}",
}


def table(result: GpuResult) -> str:
    """A line per kernel and per arm of the training, the tests, what is missing, and how long it took."""
    lines = []
    if result.rehearsed:
        lines.append("REHEARSAL on a CPU: times mean nothing and are left out")
    lines += _kernels(result)
    if trained := result.found(Trained):
        for arm, summary in trained.arms.items():
            values = {name: getattr(summary, name) for name in NUMBERS}
            numbers = [NUMBERS[name].format(value) for name, value in values.items() if value is not None]
            lines.append(f"training, {arm:<10} " + ", ".join(numbers))
        lines += [f"training, {arm:<10} failed: {why}" for arm, why in trained.failed.items()]
        if words := gain(trained):
            lines.append(f"training, difference {words} ({trained.rule})")
    for what, tested in (("tests", result.found(GpuTests)), ("2^31 elements", result.found(BigRows))):
        if tested:
            lines += [f"{what}: {outcomes(tested)}", *(f"  {line}" for line in tested.lines)]
    if tried := result.found(Tried):
        lines += [f"first try, {name}: {end.state}: {end.reason}" for name, end in tried.root.items() if end.reason]
    lines += [f"{name}: {end.state}: {end.reason}" for name, end in result.parts.items() if end.state != "done"]
    return "\n".join([*lines, f"{result.seconds:.0f} s in all"])


def _kernels(result: GpuResult) -> list[str]:
    """Verdicts, the ratio that decided with the arm that it is against, and the shares of the ceiling, call by call."""
    verified, benched = result.found(Verified), result.found(Benched)
    right, fast = (verified.root if verified else {}), (benched.root if benched else {})
    lines = []
    for name in sorted({*right, *fast}):
        about = fast.get(name, BenchFound())
        verdict = "-" if result.rehearsed else about.verdict or "-"
        decisive = "both" if any(row.direction == "both" for row in about.rows) else "forward"
        shares = [percent(row.share_of_ceiling.get(row.kernel)) for row in about.rows if row.direction == decisive]
        overall = about.overall
        shown = [f"x{ratio(overall, 2)} against {overall.to_beat};", *shares] if overall else []
        passed = right.get(name, VerifyFound()).verdict or "-"
        lines.append(f"{name:<40} {passed:<5} {verdict:<10} {' '.join(shown)}".rstrip())
    return lines
