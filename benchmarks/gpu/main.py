"""Door of gpu.sh: says what is missing on this machine, and starts the plan for a GPU.

    benchmarks/gpu.sh [--parts first|second|PART,...] [--seconds N] [--only TARGET,...] [--out DIR] [--rehearse]

Exit code 0: it came to its end, whatever the parts found; 2: it could not begin.
"""

from __future__ import annotations

import sys

from autoresearch_lab.campaign.gpu import packages


def main(arguments: list[str] | None = None) -> int:
    found = packages.look()
    for line in found["optional"]:
        print(f"not here: {line}", file=sys.stderr)
    if found["missing"]:
        print(
            f"error: packages are missing: {', '.join(found['missing'])} (docs/cuda.md, A GPU at hand)", file=sys.stderr
        )
        return 2
    # Only now: the lab itself needs packages.
    from autoresearch_lab.cli.app import main as lab

    return lab(["run", "--plan", "gpu", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
