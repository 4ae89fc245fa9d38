"""A finished run as a table and a figure for the documentation.

python train.py --preset cpu-nano --dataset stdlib --time-budget 300 --out runs/long
python benchmarks/curve.py runs/long/run.json --svg docs/curve.svg
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNTIMED_STEPS = 11
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 56, 40


def smoothed(losses: list[float], weight: float = 0.98) -> list[float]:
    """Moving average, corrected for its start at zero."""
    average, result = 0.0, []
    for number, loss in enumerate(losses, start=1):
        average = weight * average + (1 - weight) * loss
        result.append(average / (1 - weight**number))
    return result


def points(record: Mapping[str, Any], count: int) -> list[dict[str, float]]:
    """Counted seconds, steps, tokens and smoothed training loss at `count` moments, evenly spaced in steps."""
    losses, tokens = smoothed(record["losses"]), record["config"]["total_batch_tokens"]
    seconds = [0.0] * min(UNTIMED_STEPS, len(losses))
    for step in record["step_seconds"][UNTIMED_STEPS:]:
        seconds.append((seconds[-1] if seconds else 0.0) + step)
    last = len(losses) - 1
    chosen = sorted({round(i * last / max(count - 1, 1)) for i in range(count)})
    return [
        {"seconds": seconds[i], "step": i + 1, "tokens_M": (i + 1) * tokens / 1e6, "loss": losses[i]} for i in chosen
    ]


def table(rows: list[dict[str, float]]) -> str:
    lines = ["| seconds | step | million tokens | training loss (nats) |", "|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['seconds']:.0f} | {row['step']} | {row['tokens_M']:.2f} | {row['loss']:.3f} |")
    return "\n".join(lines)


def svg(rows: list[dict[str, float]], title: str) -> str:
    """A line of loss over counted seconds; drawn by hand, so that it needs no library and can be read as a diff."""
    low = math.floor(min(row["loss"] for row in rows))
    high = math.ceil(max(row["loss"] for row in rows))
    end = max(rows[-1]["seconds"], 1e-9)

    def x(seconds: float) -> float:
        return LEFT + seconds / end * (WIDTH - LEFT - 16)

    def y(loss: float) -> float:
        return 32 + (high - loss) / max(high - low, 1) * (HEIGHT - BOTTOM - 32)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12" role="img">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18">{title}</text>',
    ]
    for loss in range(low, high + 1):
        parts.append(f'<path d="M{LEFT} {y(loss):.1f}H{WIDTH - 16}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss}</text>')
    for part in range(6):
        seconds = end * part / 5
        parts.append(f'<text x="{x(seconds):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{seconds:.0f}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">seconds of training</text>')
    line = " ".join(f"{x(row['seconds']):.1f},{y(row['loss']):.1f}" for row in rows)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#0b62a4" stroke-width="1.5"/>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run.json of a finished run")
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--svg", type=Path)
    args = parser.parse_args()
    record = json.loads(args.run.read_text(encoding="utf-8"))
    summary, device = record["summary"], record["device"]
    evaluation = record["evaluation"] or {}
    print(table(points(record, args.rows)))
    print(
        f"\nval_bpb {summary['val_bpb']:.4f} on {evaluation.get('tokens')} tokens after {summary['num_steps']} steps, "
        f"{summary['total_tokens_M']:.1f} million tokens, {summary['tokens_per_second']:.0f} tokens/s; "
        f"{record['config']['preset']}, compiled: {'yes' if record['config']['compile'] else 'no'}, "
        f"{device['name']}, {record['process']['threads']} threads, torch {record['software']['torch']}"
    )
    if args.svg:
        title = f"{record['config']['preset']}: training loss in nats, {device['name']}"
        args.svg.write_text(svg(points(record, 200), title), encoding="utf-8")


if __name__ == "__main__":
    main()
