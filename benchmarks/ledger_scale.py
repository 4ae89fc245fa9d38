"""What verbs take with a ledger of many records, and how many writers share one.

    python -m benchmarks.ledger_scale --records 1000,10000,100000,1000000
    python -m benchmarks.ledger_scale --writers 8 --appends 10000 --kill 2

Makes ledgers of records of about 5 KB in a temporary folder (a million take 5 GB), in one chain: kernels of the
catalogue and of workspaces, a new one of these with every fiftieth record, half of it of this machine and half of that
with today's software. Each verb is a process of its own; the first one to meet a ledger also makes its index, and has a
row of its own. What a verb takes without a ledger is the column of 0 records: Python's start, and PyTorch's where the
device is asked. One append is that of a process that has started.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.results.record import SCHEMA

LAB = [sys.executable, str(CHECKOUT / "kernel-lab.py"), "--engine", "cpu", "--root"]
NOTE = {"settings": {"event": "failed", "step": "bench"}, "results": {"reason": "none"}}
APPENDS = 20
RECORD_BYTES = 5000


class Story:
    """The lines of a ledger of a lab that has been used for long."""

    def __init__(self, lab: Lab) -> None:
        self.rng = random.Random(1)
        self.kernels = [kernel for target in load_catalog(lab.root).values() for kernel in target.kernels]
        here = lab.context.fields()
        older = {**here, "software": {**lab.context.software, "key": "older"}}
        elsewhere = {**here, "device": {"kind": "cpu", "key": "cpu-elsewhere"}}
        self.places = [here, older, elsewhere, elsewhere]

    def lines(self, number: int) -> Iterator[str]:
        """So many, each with the hash of the one before."""
        previous = None
        for index in range(number):
            record = {"schema": SCHEMA, "prev": previous, **self._record(index)}
            text = _dumps(record)
            previous = hashlib.sha256(text.encode("ascii")).hexdigest()
            yield text.replace(',"kernel":', f',"id":"{previous}","kernel":', 1) + "\n"

    def _record(self, index: int) -> dict[str, Any]:
        rng, kernel = self.rng, self.rng.choice(self.kernels)
        name, content = kernel.name, kernel.sha256
        if index % 50 == 0 or rng.random() < 0.7:
            kernel = self.kernels[index // 50 % len(self.kernels)]
            name = f"workspace:w{index // 50}"
        if rng.random() < 0.9:
            content = f"{rng.getrandbits(256):064x}"
        about = {
            **rng.choice(self.places), "artifacts": None, "commit": "0123456789ab", "seeds": None, "verdict": None,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(1.7e9 + 60 * index)),
            "target": kernel.target, "kernel": {"name": name, "sha256": content},
            "workloads": {"sha256": f"{rng.randrange(50):064x}", "count": 1},
        }  # fmt: skip
        return {**about, **self._found(index, kernel)}

    def _found(self, index: int, kernel: Kernel) -> dict[str, Any]:
        rng, chance = self.rng, self.rng.random()
        if index % 50 == 0:
            settings = {
                "event": "workspace", "id": f"id{index // 50}", "workspace": f"workspaces/w{index // 50}",
                "lock_sha256": "0" * 64, "contract_sha256": "0" * 64, "started_from": kernel.id.model_dump(),
            }  # fmt: skip
            return {"kind": "note", "settings": settings, "results": None}
        if chance < 0.005:
            sets = {one.target: {"sha256": "1" * 64, "path": "none.json", "count": 1} for one in self.kernels}
            results = {"preset": "cpu-nano", "step_ms": 100.0, "elsewhere": _rows("name", 130), "targets": []}
            return {
                "kind": "profile", "target": None, "kernel": None, "workloads": sets, "results": results,
                "settings": {"preset": f"cpu-{rng.choice(['nano', 'small'])}"},
            }  # fmt: skip
        if chance < 0.01:
            results = {"copy_gb_s": [[1048576.0, 100.0]], "matmul_gflop_s": {"float32": 200.0 + rng.random()}}
            return {
                "kind": "note",
                "target": None,
                "kernel": None,
                "settings": {"event": "ceilings"},
                "results": results,
            }
        if chance < 0.03:
            verdict = rng.choice(["PROMOTE", "REJECT", "UNDECIDED"])
            results = {"reason": "none", "losses": {"baseline": [rng.random() for _ in range(400)]}}
            settings = {"preset": "cpu-nano", "compile": "auto", "candidate": {}, "baseline": {}}
            return {"kind": "ab", "settings": settings, "results": results, "verdict": verdict}
        if chance < 0.23:
            results = {"number": 1, "kernel_sha256": "0" * 64, "reason": "x" * 3500}
            return {
                "kind": "note", "settings": {"event": "proposal", "workspace_id": f"id{index // 50}"},
                "results": results,
            }  # fmt: skip
        if chance < 0.48:
            found = {"ratio": rng.uniform(0.5, 2), "interval": [0.4, 2.5], "level": 0.99, "direction": "both"}
            verdict = rng.choice(["FASTER", "SLOWER", "SAME", "AMBIGUOUS"])
            results = {**found, "reason": "none", "remarks": ["x" * 60] * 65}
            return {"kind": "bench", "settings": {}, "results": results, "verdict": verdict}
        checks = [{**row, "status": "pass", "compared": 12, "reason": "x" * 60} for row in _rows("name", 34, "name")]
        failed = rng.random() < 0.3
        results = {"checks": checks, "cases": 31, "reason": "wrong" if failed else ""}
        return {"kind": "verify", "settings": {}, "results": results, "verdict": "FAIL" if failed else "PASS"}


def _rows(name: str, number: int, *only: str) -> list[dict[str, Any]]:
    rows = [
        {name: f"part {index}", "forward_ms": 0.25, "backward_ms": 0.5, "calls_per_step": 9.0}
        for index in range(number)
    ]
    return [{key: row[key] for key in only} for row in rows] if only else rows


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def cost(command: list[str]) -> str:
    """ "seconds / seconds of a processor / MB" of a command; what it prints is left aside."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=CHECKOUT)
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        return (said.decode("utf-8", "replace").strip().splitlines() or ["failed"])[-1][:60]
    return f"{seconds:.1f} / {used.ru_utime + used.ru_stime:.1f} / {used.ru_maxrss / 1024:.0f}"


def append_cost(path: Path) -> str:
    """ "median (most) ms" of one append."""
    ledger, took = Ledger(path), []
    for _ in range(APPENDS + 1):
        began = time.monotonic()
        ledger.append("note", **NOTE)
        took.append(1000 * (time.monotonic() - began))
    took = sorted(took[1:])  # the first one opens the index
    return f"{took[APPENDS // 2]:.0f} ms (at most {took[-1]:.0f})"


def measure(number: int, folder: Path, context: Context, data: Path) -> dict[str, str]:
    """{what: its cost} with a ledger of so many records in `folder`."""
    root = Root(folder)
    root.results.mkdir(parents=True, exist_ok=True)
    if not root.kernels.exists():
        root.kernels.symlink_to(CHECKOUT / "kernels")
    if number and not root.ledger.exists():
        with open(root.ledger, "w", encoding="ascii") as file:
            file.writelines(Story(Lab.of(context, root)).lines(number))
    verbs = [*LAB, str(folder)]
    subject = "rms_norm=cpp_fused"
    train = [sys.executable, str(CHECKOUT / "train.py"), "--engine", "cpu", "--root", str(folder), "--print-config"]
    costs = {"ledger --tail 10, making the index": cost([*verbs, "ledger", "--tail", "10"])}
    costs["one append"] = append_cost(root.ledger) if number else "-"
    for name, command in {
        "list-targets": [*verbs, "list-targets"],
        f"promotion-check {subject}": [*verbs, "promotion-check", subject],
        "evidence --target rms_norm": [*verbs, "evidence", "--target", "rms_norm"],
        f"evidence {subject}": [*verbs, "evidence", subject],
        "report": [*verbs, "report"],
        "ledger --tail 10": [*verbs, "ledger", "--tail", "10"],
        "train --print-config": [*train, "--data-dir", str(data), "--preset", "cpu-nano"],
        "ledger (reads all)": [*verbs, "ledger"],
    }.items():
        costs[name] = cost(command)
    return costs


def write(path: Path, appends: int, counted: Path) -> None:
    """Append so many records, and say in a file of its own when each was there."""
    ledger = Ledger(path)
    with open(counted, "w", encoding="ascii") as file:
        for _ in range(appends):
            ledger.append("note", **{**NOTE, "results": {"reason": "x" * 4500}})
            file.write(f"{time.monotonic()}\n")
            file.flush()


def race(writers: int, appends: int, kill: int, folder: Path) -> Table:
    """How many records each of the writers has after each quarter of the time that the first one took; `kill` of them
    are killed after the first quarter of its records."""
    path = folder / "ledger.jsonl"
    counts = [folder / f"writer{number}" for number in range(writers)]
    script = "import sys; from pathlib import Path; from benchmarks.ledger_scale import write; " \
             "write(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))"  # fmt: skip
    command = [sys.executable, "-c", script, str(path), str(appends)]
    began = time.monotonic()
    running = [subprocess.Popen([*command, str(file)], cwd=CHECKOUT) for file in counts]
    for victim, file in [*zip(running, counts, strict=True)][:kill]:
        while victim.poll() is None and (not file.exists() or file.read_bytes().count(b"\n") < appends // 4):
            time.sleep(0.05)
        victim.send_signal(signal.SIGKILL)
    codes = [process.wait() for process in running]
    seconds = time.monotonic() - began
    times = [[float(line) - began for line in file.read_text().splitlines()] for file in counts]
    ends = min((each[-1] for each, code in zip(times, codes, strict=True) if code == 0), default=seconds)
    marks = [ends * quarter / 4 for quarter in (1, 2, 3, 4)]
    table = Table("writer", *(f"after {mark:.0f} s" for mark in marks), "in the end", "longest wait", box=None)
    for number, (each, code) in enumerate(zip(times, codes, strict=True), start=1):
        found = [sum(moment <= mark for moment in each) for mark in marks]
        waits = max((after - before for before, after in zip(each, each[1:], strict=False)), default=0.0)
        end = f"{len(each):,}{' (killed)' if code else ''}"
        table.add_row(str(number), *(f"{count:,}" for count in found), end, f"{waits:.1f} s")
    ledger = Ledger(path)
    lost = sum(map(len, times)) - ledger.count()
    said = ledger.problems() or ["the chain holds"]
    table.caption = f"{ledger.count():,} records in {seconds:.0f} s, {max(0, lost)} of those told lost; {said[0]}"
    return table


def machine() -> str:
    """Processor and load, for whoever compares."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return f"{os.cpu_count()} cores of {model}; load average {load}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", default="1000,10000", help="Sizes of ledgers, by comma.")
    parser.add_argument("--folder", type=Path, help="Where the ledgers are made, and kept [default: a temporary one].")
    parser.add_argument("--data", type=Path, default=CHECKOUT / "data", help="Folder of the datasets.")
    parser.add_argument("--writers", type=int, help="Let so many write one ledger at once instead.")
    parser.add_argument("--appends", type=int, default=10000, help="How many records each of them appends.")
    parser.add_argument("--kill", type=int, default=0, help="How many of them are killed meanwhile.")
    asked = parser.parse_args()
    console = Console(width=160)
    console.print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        if asked.writers:
            console.print(race(asked.writers, asked.appends, asked.kill, Path(temporary)))
            return
        context = Lab(Root(CHECKOUT), "cpu").context
        sizes = [0, *(int(word) for word in asked.records.split(","))]
        found = {number: measure(number, folder / str(number), context, asked.data) for number in sizes}
    table = Table("seconds / of a processor / MB", *(f"{number:,}" for number in sizes), box=None, pad_edge=False)
    for what in found[0]:
        table.add_row(what, *(found[number][what] for number in sizes))
    console.print(table)
    console.print(machine())


if __name__ == "__main__":
    main()
