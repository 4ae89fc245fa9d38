"""The short table that a call of the GPU suite prints last."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.formats import found, gain, outcomes, percent, ratio

NUMBERS = {
    "tokens_per_second": "{:,.0f} tokens/s",
    "peak_vram_mb": "{:,.0f} MiB",
    "mfu_percent": "MFU {:.1f} %",
    "val_bpb": "val_bpb {:.4f}",
}


def table(result: dict[str, Any]) -> str:
    """A line per kernel and per arm of the training, the tests, what is missing, and how long it took."""
    lines = []
    if result["rehearsed"]:
        lines.append("REHEARSAL on a CPU: times mean nothing and are left out")
    lines += _kernels(result)
    trained = found(result, "train")
    for arm, summary in (trained.get("arms") or {}).items():
        numbers = [text.format(summary[name]) for name, text in NUMBERS.items() if summary.get(name) is not None]
        lines.append(f"training, {arm:<10} " + ", ".join(numbers))
    lines += [f"training, {arm:<10} failed: {why}" for arm, why in (trained.get("failed") or {}).items()]
    if words := gain(trained):
        lines.append(f"training, difference {words} ({trained['rule']})")
    if tested := found(result, "tests"):
        lines += [f"tests: {outcomes(tested)}", *(f"  {line}" for line in tested["lines"])]
    for name, part in result["parts"].items():
        if part["status"] != "done":
            lines.append(f"{name}: {part['status']}: {part['reason']}")
    return "\n".join([*lines, f"{result['seconds']:.0f} s in all"])


def _kernels(result: dict[str, Any]) -> list[str]:
    """Verdicts, the ratio that decided with the arm that it is against, and the shares of the ceiling, call by call."""
    verified, benched = found(result, "verify"), found(result, "bench")
    lines = []
    for name in sorted({*verified, *benched}):
        right = (verified.get(name) or {}).get("verdict") or "-"
        about = benched.get(name) or {}
        fast = "-" if result["rehearsed"] else about.get("verdict") or "-"
        rows, overall = about.get("rows", []), about.get("overall")
        decisive = "both" if any(row["direction"] == "both" for row in rows) else "forward"
        shares = [percent(row["share_of_ceiling"].get(row["kernel"])) for row in rows if row["direction"] == decisive]
        shown = [f"x{ratio(overall, 2)} against {overall['to_beat']};", *shares] if overall else []
        lines.append(f"{name:<40} {right:<5} {fast:<10} {' '.join(shown)}".rstrip())
    return lines
