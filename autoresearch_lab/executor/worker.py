"""The side on the node: says who it is, then carries out one step at a time in a lab of its own that nobody else sees.

Its ledger is scratch. It holds those records of the driver's that the step rests on, and what the step appends travels
back; only the driver writes into the ledger that counts.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import tempfile
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

from autoresearch_common.files import write_atomic
from autoresearch_lab import lookup
from autoresearch_lab.bench.run import bench
from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.engine import choose
from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.executor.checkout import difference, kernels_folder
from autoresearch_lab.executor.packing import Hello, PackedWorkloads, Reply, Task, unpack_kernel, unpack_workloads
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import Context, context
from autoresearch_lab.paths import Root
from autoresearch_lab.verify.run import verify

# How many threads a library takes. Ray sets some of these for its workers; here they have to be as on the driver.
THREADS = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")

PREFIX, LOCK = "kernel-lab-worker-", "lock"


class Worker:
    """What answers on a node. Takes and returns plain data only; nothing that goes wrong in a step is raised."""

    def __init__(self) -> None:
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = FileLock(self._folder / LOCK)  # falls with this process, however that ends
        self._lock.acquire()
        self._context: Context | None = None

    def hello(self, engine: str, manifest: dict[str, str], threads: dict[str, str], niceness: int) -> Hello:
        """Who this is, or why it cannot work.

        manifest: the code that has to lie here. threads: the driver's variables that begin with one of THREADS.
        niceness: the driver's; taken over where the system lets a process have it.
        """
        found = difference(manifest)
        if found is not None:
            return self._hello(f"the lab's code is not the same: {found}")
        for name in [name for name in os.environ if name.startswith(THREADS)]:
            del os.environ[name]
        os.environ.update(threads)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
        except OSError:
            pass  # said in the answer, and in every record
        try:
            self._context = context(choose(engine), self._empty_root())
        except (LabError, LabFailure) as error:
            return self._hello(str(error))
        return self._hello(None)

    def _hello(self, error: str | None) -> Hello:
        context = self._context
        return {
            "error": error,
            "device": context.device if context else {},
            "software": context.software if context else {},
            "machine": machine_id(),
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        }

    def run(self, task: Task, captured: PackedWorkloads) -> Reply:
        """Carry out a step (see `tasks.pack`)."""
        root = self._empty_root()
        error = None
        assert self._context is not None  # `hello` came first
        lab = Lab.of(self._context, root, Ledger(root.ledger, excerpt=True))
        write_atomic(root.ledger, "".join(json.dumps(record) + "\n" for record in task["records"]))
        try:
            self._step(task, captured, lab)
        except (LabError, LabFailure) as failure:
            # A job that failed is a failure to whoever gave it, whatever it failed of.
            error = ["LabError" if isinstance(failure, LabError) else "LabFailure", str(failure)]
        made = [*lookup.everything(lab.ledger)][len(task["records"]) :]
        paths = [artifact.path for record in made for artifact in record.artifacts or []]
        files = {path: (root.path / path).read_bytes() for path in paths}
        shutil.rmtree(root.path, ignore_errors=True)
        return {"records": [record.plain() for record in made], "files": files, "error": error}

    def close(self) -> None:
        """Leave nothing behind."""
        self._lock.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _step(self, task: Task, captured: PackedWorkloads, lab: Lab) -> None:
        target = find_target(load_catalog(lab.root), task["kernel"]["target"])
        kernel = unpack_kernel(task["kernel"], lab.root.workspaces / "candidate")
        workload_set = unpack_workloads(captured, self._folder / "workloads")
        subject = (kernel, target, workload_set, lab)
        run_dir = lab.root.runs / task["step"]
        if task["step"] == "verify":
            verify(*subject, run_dir=run_dir, profile_id=task["profile"])
        else:
            bench(*subject, run_dir=run_dir, budget_seconds=task["bench_seconds"])

    def _empty_root(self) -> Root:
        """A new, empty lab with the kernels that came with the code."""
        folder = self._folder / secrets.token_hex(4)
        folder.mkdir()
        (folder / "kernels").symlink_to(kernels_folder())
        return Root(folder)


def _sweep() -> None:
    """Remove what workers that were killed left here: those folders whose lock nobody holds."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        try:
            with FileLock(path, timeout=0):
                shutil.rmtree(path.parent, ignore_errors=True)
        except (Timeout, OSError):
            pass  # one that works, or somebody else's


def machine_id() -> str:
    """The same for all that runs on one machine, containers included, until it is started anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{platform.node()} {uuid.getnode():x}"
