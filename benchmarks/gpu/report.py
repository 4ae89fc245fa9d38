"""What is printed last, what is brought back, and docs/gpu-results.md:

python -m benchmarks.gpu.report [RESULT.json] --write docs/gpu-results.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

PAGE = Path("docs") / "gpu-results.md"
HEAD = """# Results on a GPU

Written by `python -m benchmarks.gpu.report gpu.json --write docs/gpu-results.md` from what `benchmarks/gpu.sh` brings
back ([cuda.md](cuda.md), "A GPU at hand"). Nothing here is typed in.
"""
NOTHING = """
**Not yet measured**: no GPU has been at hand. On a machine with one, this measures everything that belongs here:

    benchmarks/gpu.sh

The aims: every memory-bound kernel at 85 % or more of the measured copy bandwidth, none slower than its best arm, the
compiled `upstream` step at least 1.10 times as fast with promoted kernels as without, val_bpb not worse.
"""


def table(result: dict[str, Any]) -> str:
    """A few lines for a terminal."""
    lines = []
    if result["rehearsed"]:
        lines.append("REHEARSAL on a CPU: times mean nothing and are left out")
    verified, benched = _found(result, "verify"), _found(result, "bench")
    for name in sorted({*verified, *benched}):
        right = (verified.get(name) or {}).get("verdict") or "-"
        about = benched.get(name) or {}
        fast = about.get("verdict") or "-"
        both = [row for row in about.get("rows", []) if row["direction"] in _decisive(about["rows"])]
        shown = "  ".join(_short(row) for row in both)
        lines.append(f"{name:<40} {right:<5} {'-' if result['rehearsed'] else fast:<10} {shown}".rstrip())
    trained = _found(result, "train")
    for arm, summary in (trained.get("arms") or {}).items():
        lines.append(f"training, {arm:<10} " + ", ".join(_numbers(summary)))
    lines += [f"training, {arm:<10} failed: {why}" for arm, why in (trained.get("failed") or {}).items()]
    if trained.get("speedup"):
        lines.append(f"training, speed-up  x{trained['speedup']:.3f}, val_bpb {trained['val_bpb_difference']:+.4f}")
    for name, part in result["parts"].items():
        if part["status"] != "done":
            lines.append(f"{name}: {part['status']}: {part['reason']}")
    return "\n".join([*lines, f"{result['seconds']:.0f} s in all"])


def page(result: dict[str, Any] | None) -> str:
    """docs/gpu-results.md. Raises ValueError for a rehearsal: it measured nothing."""
    if result is None:
        return HEAD + NOTHING
    if result["rehearsed"]:
        raise ValueError("a rehearsal measures nothing; the page is made from a run on a GPU")
    about = result["machine"]
    lines = [
        HEAD,
        f"{about['name']}, {about['software']['torch']} (PyTorch), CUDA {about['cuda']}; {result['started']}.",
        *_confinement_lines(result),
    ]
    lines += ["", "## Kernels", "", *_kernel_lines(result), "", "## Training", "", *_training_lines(result)]
    lines += ["", "## Where the time goes", "", *_capture_lines(result)]
    failed = [f"- {name}: {part['reason']}" for name, part in result["parts"].items() if part["status"] != "done"]
    if failed:
        lines += ["", "## What is missing", "", *failed]
    return "\n".join(lines) + "\n"


def _confinement_lines(result: dict[str, Any]) -> list[str]:
    """What of the confinement of judged kernels had to be left out, if anything."""
    found = _found(result, "confined")
    if not found.get("without"):
        return []
    return [f"Kernels ran confined without {found['without']}: the driver does not start with it."]


def _kernel_lines(result: dict[str, Any]) -> list[str]:
    benched = _found(result, "bench")
    lines = [
        "us per call, caches cold; share: of what this machine's measured ceilings allow; ratio: baseline / kernel,",
        "with the interval of the bench.",
        "",
        "| kernel | call | | verdict | baseline | arms | kernel | share | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, about in sorted(benched.items()):
        for row in about.get("rows", []):
            us, shares = row["microseconds"], row["share_of_ceiling"]
            others = [f"{arm} {value:.1f}" for arm, value in us.items() if arm not in ("baseline", row["kernel"])]
            shapes = " ".join("x".join(map(str, shape)) or "scalar" for shape in row["shapes"][:2])
            low, high = row["interval"]
            cells = (
                *(name, shapes, row["direction"], about.get("verdict") or "-", f"{us['baseline']:.1f}"),
                *(", ".join(others) or "-", f"{us[row['kernel']]:.1f}", _percent(shares.get(row["kernel"]))),
                f"{row['ratio']:.3f} [{low:.3f}, {high:.3f}]",
            )
            lines.append("| " + " | ".join(cells) + " |")
        if not about.get("rows"):
            lines.append(
                f"| {name} | | | {about.get('verdict') or 'not measured'} | | {about.get('reason') or ''} | | | |"
            )
    return lines if benched else ["Not yet measured."]


def _training_lines(result: dict[str, Any]) -> list[str]:
    trained = _found(result, "train")
    if not trained:
        return ["Not yet measured."]
    names = ", ".join(trained.get("chosen") or []) or "none"
    lines = [
        "One run per arm, compiled, same tokens and seed; no interval. The batch is what fits, so its calls are larger"
    ]
    lines += [f"than those timed above. Kernels ({trained.get('rule', '-')}): {names}.", ""]
    lines += ["| | tokens/s | peak memory | MFU, measured | MFU, stated | val_bpb |", "|---|---|---|---|---|---|"]
    for arm, one in trained["arms"].items():
        speed, bits = one.get("tokens_per_second"), one.get("val_bpb")
        cells = (
            *(arm, f"{speed:,.0f}" if speed else "-", f"{one['peak_vram_mb']:,.0f} MiB"),
            *(_points(one.get("mfu_measured_percent")), _points(one.get("mfu_datasheet_percent"))),
            f"{bits:.4f}" if bits is not None else "-",
        )
        lines.append("| " + " | ".join(cells) + " |")
    if trained.get("speedup"):
        lines += ["", f"Speed-up x{trained['speedup']:.3f}; val_bpb {trained['val_bpb_difference']:+.4f}."]
    lines += ["", *(f"- {name}: left out, {why}" for name, why in (trained.get("left_out") or {}).items())]
    lines += [f"- {arm}: failed, {why}" for arm, why in (trained.get("failed") or {}).items()]
    return lines


def _capture_lines(result: dict[str, Any]) -> list[str]:
    captured = _found(result, "capture")
    if not captured:
        return ["Not yet measured."]
    lines = ["Device time per step under each target's calls (uncompiled, PyTorch's profiler).", ""]
    lines += ["| range | calls | us |", "|---|---|---|"]
    lines += [f"| {name} | {row['calls']:.0f} | {row['us']:.0f} |" for name, row in captured["ranges"].items()]
    return lines


def _found(result: dict[str, Any], part: str) -> dict[str, Any]:
    return (result["parts"].get(part) or {}).get("found") or {}


def _decisive(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    return ("both",) if any(row["direction"] == "both" for row in rows) else ("forward",)


def _short(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    share = _percent(row["share_of_ceiling"].get(row["kernel"]))
    return f"x{row['ratio']:.2f} [{low:.2f}, {high:.2f}] {share}"


def _numbers(summary: dict[str, Any]) -> list[str]:
    words = {
        "tokens_per_second": "{:,.0f} tokens/s",
        "peak_vram_mb": "{:,.0f} MiB",
        "mfu_percent": "MFU {:.1f} %",
        "val_bpb": "val_bpb {:.4f}",
    }
    return [text.format(summary[name]) for name, text in words.items() if summary.get(name) is not None]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _points(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make docs/gpu-results.md from what benchmarks/gpu.sh brought back.")
    parser.add_argument("result", type=Path, nargs="?", help="gpu.json [default: none, the page says not yet measured]")
    parser.add_argument("--write", type=Path, help=f"file to write [default: print; the page is {PAGE}]")
    options = parser.parse_args()
    try:
        result = json.loads(options.result.read_text(encoding="utf-8")) if options.result else None
        text = page(result)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"error: {error}") from None
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
