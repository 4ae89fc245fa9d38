"""What verbs take with a ledger of many records: seconds of a processor, and memory.

    python -m benchmarks.ledger_scale --records 1000,10000,100000

Makes ledgers of records of about 5 KB in a temporary folder (a million take 5 GB), in one chain, of all kernels of the
catalogue with made-up contents: a tenth of them of this machine. Each verb is a process of its own; the first one to
meet a ledger also makes its index, and has a row of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.lab import Lab
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.results.record import SCHEMA

RECORD_BYTES = 5000
LAB = [sys.executable, str(CHECKOUT / "kernel-lab.py"), "--engine", "cpu", "--root"]
APPEND = (
    "import sys; from autoresearch_lab.ledger import Ledger; "
    "Ledger(sys.argv[1]).append('note', settings={'event': 'failed', 'step': 'bench'}, results={'reason': 'none'})"
)


def lines(number: int, lab: Lab) -> Iterator[str]:
    """The lines of a ledger of `number` records, each with the hash of the one before."""
    rng = random.Random(number)
    kernels = [(target.name, kernel) for target in load_catalog(lab.root).values() for kernel in target.kernels]
    here = lab.context.fields()
    elsewhere = {**here, "device": {"kind": "cpu", "key": "cpu-elsewhere"}}
    previous = None
    for _ in range(number):
        target, kernel = rng.choice(kernels)
        content = kernel.sha256 if rng.random() < 0.1 else f"{rng.getrandbits(256):064x}"
        record: dict[str, Any] = {
            **(here if rng.random() < 0.1 else elsewhere),
            "schema": SCHEMA, "prev": previous, "time": "2026-01-01T00:00:00+00:00", "commit": None,
            "target": target, "kernel": {"name": kernel.name, "sha256": content},
            "workloads": {"sha256": f"{rng.randrange(50):064x}", "count": 1},
            "settings": {}, "results": {"reason": "x" * RECORD_BYTES},
            **rng.choice([{"kind": "verify", "verdict": "PASS"}, {"kind": "bench", "verdict": "FASTER"}]),
        }  # fmt: skip
        previous = hashlib.sha256(_dumps(record).encode("ascii")).hexdigest()
        yield _dumps({**record, "id": previous}) + "\n"


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def cost(command: list[str]) -> str:
    """ "seconds of a processor / MB" of a command; what it prints is left aside."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=CHECKOUT)
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        return (said.decode("utf-8", "replace").strip().splitlines() or ["failed"])[-1][:60]
    return f"{used.ru_utime + used.ru_stime:.2f} / {used.ru_maxrss / 1024:.0f}"


def measure(number: int, folder: Path) -> dict[str, str]:
    """{what: its cost} with a ledger of so many records in `folder`."""
    (folder / "kernels").symlink_to(CHECKOUT / "kernels")
    root = Root(folder)
    root.results.mkdir(parents=True)
    lab = Lab(root, "cpu")
    lab.context  # noqa: B018  asks the device, which takes a process
    with open(root.ledger, "w", encoding="ascii") as file:
        file.writelines(lines(number, lab))
    verbs = [*LAB, str(folder)]
    append = [sys.executable, "-c", APPEND, str(root.ledger)]
    subject = "rms_norm=cpp_fused"
    return {
        "first append (makes the index)": cost(append),
        "one append": cost(append),
        "list-targets": cost([*verbs, "list-targets"]),
        f"promotion-check {subject}": cost([*verbs, "promotion-check", subject]),
        "evidence --target rms_norm": cost([*verbs, "evidence", "--target", "rms_norm"]),
        "ledger --tail 10": cost([*verbs, "ledger", "--tail", "10"]),
        "ledger (reads all)": cost([*verbs, "ledger"]),
        "report": cost([*verbs, "report"]),
        "train --print-config": cost(
            [sys.executable, str(CHECKOUT / "train.py"), "--engine", "cpu", "--root", str(folder), "--print-config"]
            + ["--data-dir", str(CHECKOUT / "data"), "--preset", "cpu-nano"]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", default="1000,10000", help="Sizes of ledgers, by comma.")
    parser.add_argument("--folder", type=Path, help="Where the ledgers are made [default: a temporary folder].")
    asked = parser.parse_args()
    sizes = [int(word) for word in asked.records.split(",")]
    found = {}
    for number in sizes:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            found[number] = measure(number, Path(folder))
    table = Table("seconds of a processor / MB", *(f"{number:,}" for number in sizes), box=None, pad_edge=False)
    for what in found[sizes[0]]:
        table.add_row(what, *(found[number][what] for number in sizes))
    Console().print(table)


if __name__ == "__main__":
    main()
