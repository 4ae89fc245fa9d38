"""docs/gpu-results.md from what a call of the GPU suite brought back:

python -m benchmarks.gpu.report [RESULT.json] --write docs/gpu-results.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.gpu import sections
from benchmarks.gpu.formats import found

PAGE = Path("docs") / "gpu-results.md"
HEAD = """# Results on a GPU

Written by `python -m benchmarks.gpu.report gpu.json --write docs/gpu-results.md` from what `benchmarks/gpu.sh` brings
back ([cuda.md](cuda.md), "A GPU at hand"). Nothing here is typed in.
"""
NOTHING = """
All of it is not yet measured: no GPU has been at hand. On a machine with one, this measures what belongs here:

    benchmarks/gpu.sh

The aims: every memory-bound kernel at 85 % or more of the measured copy bandwidth, none slower than its best arm, the
compiled `upstream` step at least 1.10 times as fast with promoted kernels as without, val_bpb not worse.
"""
SECTIONS = {
    "Kernels": sections.kernels,
    "Training": sections.training,
    "Where the time goes": sections.capture,
    "Hardware counters": sections.counters,
    "GPU tests": sections.tests,
}


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
        *_confinement(result),
    ]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", *section(result)]
    failed = [f"- {name}: {part['reason']}" for name, part in result["parts"].items() if part["status"] != "done"]
    if failed:
        lines += ["", "## What is missing", "", *failed]
    return "\n".join(lines) + "\n"


def _confinement(result: dict[str, Any]) -> list[str]:
    """What of the confinement of judged kernels had to be left out, if anything."""
    without = found(result, "confined").get("without")
    return [f"Kernels ran confined without {without}: the driver does not start with it."] if without else []


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
