"""What reading large traces costs: python benchmarks/trace_scale.py [LAUNCHES ...]

Writes synthetic traces with so many launches, one as Nsight Systems' database and one as PyTorch's JSON (with the
operators and Python frames of a real one, about 1 KB per launch), profiles each in a process of its own, and prints
its processor time and its largest memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PER_STEP, KERNELS = 1000, 200
PROCESS = (1 << 56) | (4242 << 24)
_NAME = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, number {}>(int, float*)"


def write_database(path: Path, launches: int) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
        base.executemany("INSERT INTO StringIds VALUES (?, ?)", ((n, _NAME.format(n)) for n in range(KERNELS)))
        base.execute("CREATE TABLE NVTX_EVENTS (start, end, eventType, text, globalTid)")
        base.executemany("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, ?)", _ranges(launches))
        base.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start, end, globalTid, correlationId)")
        calls = ((n * 10_000, n * 10_000 + 4_000, PROCESS | 1, n) for n in range(launches))
        base.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?)", calls)
        columns = "start, end, deviceId, streamId, correlationId, globalPid, demangledName, shortName"
        base.execute(f"CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL ({columns})")
        kernels = (
            (n * 10_000 + 6_000, n * 10_000 + 14_000, 0, 7, n, PROCESS, n % KERNELS, n % KERNELS)
            for n in range(launches)
        )
        base.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, ?, ?, ?, ?, ?)", kernels)


def _ranges(launches: int) -> Iterator[tuple[int, int, str, int]]:
    for step in range(launches // PER_STEP):
        start = step * PER_STEP * 10_000
        yield start, start + PER_STEP * 10_000 - 1, f"step {step}", PROCESS | 1
        for part in range(50):
            yield start + part * 200_000, start + part * 200_000 + 199_999, f"layer {part}", PROCESS | 1


def write_json(path: Path, launches: int) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "synthetic"}], "traceEvents": [\n')
        for n in range(launches):
            for event in _events(n):
                file.write(json.dumps(event, indent=1) + ",\n")
        file.write('{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}}]}\n')


def _events(n: int) -> Iterator[dict[str, object]]:
    start = n * 10.0
    if n % PER_STEP == 0:
        yield _event("user_annotation", f"ProfilerStep#{n // PER_STEP}", start, PER_STEP * 10 - 0.1)
    if n % 20 == 0:
        yield _event("user_annotation", f"layer {n // 20 % 50}", start, 199.9)
    external = {"External id": n, "Record function id": 0, "Ev Idx": n}
    yield _event("python_function", f"torch/nn/modules/module.py(1773): _call_impl {n % 99}", start, 9.0, **external)
    yield _event("cpu_op", "aten::add", start + 0.5, 8.0, **external, **{"Sequence number": n, "Fwd thread id": 0})
    yield _event("cuda_runtime", "cudaLaunchKernel", start + 1, 4.0, cbid=211, correlation=n)
    about = {"device": 0, "context": 1, "stream": 7, "correlation": n, "grid": [96, 1, 1], "block": [128, 1, 1]}
    yield _event("kernel", _NAME.format(n % KERNELS), start + 6, 8.0, **about, **{"External id": n})


def _event(category: str, name: str, start: float, duration: float, **about: object) -> dict[str, object]:
    pid, tid = (0, 7) if category == "kernel" else (1, 1)
    place = {"pid": pid, "tid": tid, "ts": start, "dur": duration}
    return {"ph": "X", "cat": category, "name": name, **place, "args": about}


def measure(path: Path, lab: Path) -> str:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(ROOT / "kernel-lab.py"), "--root", str(lab), "trace-profile", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(done.stdout)
    megabytes = path.stat().st_size / 1e6
    return (
        f"{path.name}: {megabytes:,.0f} MB, {found['steps']} steps of {found['device_ms']:.2f} ms: "
        f"{seconds:.1f} s of a processor, {after.ru_maxrss / 1024:,.0f} MB at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("launches", type=int, nargs="*", default=[2_000, 1_000_000])
    for launches in parser.parse_args().launches:
        with tempfile.TemporaryDirectory() as folder:
            for write, name in ((write_database, f"{launches}.sqlite"), (write_json, f"{launches}.json")):
                path = Path(folder) / name
                write(path, launches)
                print(measure(path, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
