"""docs/gpu-results.md from what a call of the GPU suite brought back:

python -m benchmarks.gpu.report [RESULT.json] --write docs/gpu-results.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autoresearch_lab.campaign.gpu.result import ConfinedStart, GpuResult
from benchmarks.gpu import sections

PAGE = Path("docs") / "gpu-results.md"
HEAD = """# Results on a GPU

Written by `python -m benchmarks.gpu.report gpu.json --write docs/gpu-results.md` from what `benchmarks/gpu.sh` brings
back ([cuda.md](cuda.md), "A GPU at hand"). Nothing here is typed in.
"""
NOTHING = """
All of it is not yet measured: no GPU has been at hand. On a machine with one, this measures what belongs here:

    benchmarks/gpu.sh --parts first
    benchmarks/gpu.sh --parts second

The aims: every memory-bound kernel at 85 % or more of the measured copy bandwidth, none slower than its best arm, the
compiled `upstream` step at least 1.10 times as fast with promoted kernels as without, val_bpb not worse.
"""
SECTIONS = {
    "Kernels": sections.kernels,
    "Arrays of 2^31 elements": sections.rows,
    "Training": sections.training,
    "Where the time goes": sections.capture,
    "Hardware counters": sections.counters,
    "GPU tests": sections.tests,
}


def page(result: GpuResult | None) -> str:
    """docs/gpu-results.md. Raises ValueError for a rehearsal: it measured nothing."""
    if result is None:
        return HEAD + NOTHING
    if result.rehearsed:
        raise ValueError("a rehearsal measures nothing; the page is made from a run on a GPU")
    about = result.machine
    lines = [
        HEAD,
        f"{about.name}, {about.software['torch']} (PyTorch), CUDA {about.cuda}; {result.started}.",
        *_confinement(result),
    ]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", *section(result)]
    failed = [f"- {name}: {end.reason}" for name, end in result.parts.items() if end.state != "done"]
    if failed:
        lines += ["", "## What is missing", "", *failed]
    return "\n".join(lines) + "\n"


def _confinement(result: GpuResult) -> list[str]:
    """What of the confinement of judged kernels had to be left out, if anything."""
    start = result.found(ConfinedStart)
    without = start.without if start else ""
    return [f"Kernels ran confined without {without}: the driver does not start with it."] if without else []


def main() -> None:
    parser = argparse.ArgumentParser(description="Make docs/gpu-results.md from what benchmarks/gpu.sh brought back.")
    parser.add_argument("result", type=Path, nargs="?", help="gpu.json [default: none, the page says not yet measured]")
    parser.add_argument("--write", type=Path, help=f"file to write [default: print; the page is {PAGE}]")
    options = parser.parse_args()
    try:
        text = options.result.read_text(encoding="utf-8") if options.result else None
        result = GpuResult.model_validate_json(text) if text is not None else None
        text = page(result)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"error: {error}") from None
    show(text, options.write)


def show(text: str, file: Path | None) -> None:
    """Write a page, or print it."""
    if file:
        file.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
