"""From the start of the process to the end of the first optimizer step, uncompiled: seconds in fresh processes.

python benchmarks/startup.py --runs 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu-nano")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    seconds = []
    for number in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(CHECKOUT / "train.py"), "--preset", args.preset, "--steps", "1"]
            command += ["--compile", "off", "--eval-tokens", "4096", "--out", folder, "--no-checkpoint"]
            command += ["--results", f"{folder}/results.tsv"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            record = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
        seconds.append(record["seconds_to_first_step"])
        print(f"run {number + 1}: {seconds[-1]:.2f} s", flush=True)
    print(f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s ({record['device']['name']})")


if __name__ == "__main__":
    main()
