"""Ray, as far as the lab uses it: join a cluster within a bounded time, one worker per node, calls and their answers.

Ray is imported when it is asked for. What goes through it are plain dictionaries; the worker's class travels as a name,
its code as a folder of files that every node gets a copy of.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from autoresearch_lab.errors import LabError, LabFailure
from autoresearch_lab.executor.admission import Lost, Node
from autoresearch_lab.executor.checkout import stage
from autoresearch_lab.paths import Root
from autoresearch_lab.sandbox.supervisor import below

LOCAL = "local"
VARIABLE = "RAY_ADDRESS"
REACH_SECONDS, JOIN_SECONDS = 5.0, 60.0
POLL_SECONDS = 0.2
# What a local instance keeps for data on its way; captured calls are tens of megabytes.
STORE_BYTES = 512 << 20
# What an instance of this machine's own is started with: it tells nobody of it, runs workers at this process's
# priority, and listens at the loopback interface, as by default where Ray knows no clusters (read once, when Ray is
# imported).
_LOCAL_ONLY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Joins a cluster and leaves it again. In a process of its own, because Ray takes its time with an address at which
# something else answers, and can end the process that asked.
_TRIAL = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False); ray.shutdown()"


def require_ray() -> None:
    """Raises LabError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise LabError("the Python package 'ray' is not installed; install it with: pip install -e '.[ray]'")


def chosen_address(given: str | None) -> str:
    """Where the cluster is: `given`, else RAY_ADDRESS, else LOCAL (an instance on this machine, ended afterwards).

    Raises:
        LabError: it is not an address that can be used.
    """
    address = given or os.environ.get(VARIABLE) or LOCAL
    if "://" in address:
        raise LabError(
            f"--ray-address {address}: run orchestrate on a node of the cluster (ray start --address=HOST:PORT joins "
            "one) and give HOST:PORT; Ray Client is not supported"
        )
    if address not in (LOCAL, "auto") and not re.fullmatch(r"[^:\s]+:\d{1,5}|\[[^\]\s]+\]:\d{1,5}", address):
        raise LabError(f"--ray-address {address}: give HOST:PORT, auto or {LOCAL}")
    return address


class RayTransport:
    """See `admission.Transport`. Reserves all processors, and for engine cuda all GPUs, of every node it works on."""

    def __init__(self, address: str, root: Root, gpus: bool) -> None:
        """Join the cluster at `address` and send it the lab's code.

        Raises:
            LabError: Ray is not installed, or the cluster cannot be joined within REACH_SECONDS + JOIN_SECONDS.
        """
        require_ray()
        if address != LOCAL:
            _try(address)
        self._gpus = gpus
        # Ray prints what happens to its workers on stdout, which belongs to the result.
        self._quiet = ExitStack()
        folder = Path(tempfile.mkdtemp(prefix="kernel-lab-code-"))
        try:
            self.manifest = stage(root, folder / "code")
            self._join(address, folder / "code")
        except BaseException:
            self.close()
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _join(self, address: str, code: Path) -> None:
        with _ray_to_itself(_LOCAL_ONLY if address == LOCAL else {}):
            import ray
            from ray.exceptions import RayError

            self._ray = ray
            self._quiet.enter_context(redirect_stdout(self._quiet.enter_context(open(os.devnull, "w"))))
            options: dict[str, Any] = {}
            if address == LOCAL:
                # Nothing of it is to be reached from outside. One processor, because one worker is all there will be;
                # how many threads that takes is not Ray's business here (see worker.THREADS).
                options = {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "num_cpus": 1}
                options |= {"object_store_memory": STORE_BYTES}
            try:
                ray.init(
                    address=address,
                    runtime_env={"working_dir": str(code)},
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **options,
                )
            except (OSError, RuntimeError, ValueError, RayError) as error:
                raise LabError(f"ray: cannot join {_named(address)}: {_line(str(error))}") from None

    def nodes(self) -> list[Node]:
        found = []
        for node in self._ray.nodes():
            if node["Alive"]:
                resources = node.get("Resources", {})
                name = node.get("NodeName") or node["NodeManagerAddress"]
                cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
                found.append(Node(node["NodeID"], str(name), float(cpus), float(gpus)))
        return found

    def hire(self, node: Node) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from autoresearch_lab.executor.worker import Worker

        options: dict[str, Any] = {"num_cpus": node.cpus, "max_restarts": 0, "max_task_retries": 0}
        if self._gpus:
            options["num_gpus"] = node.gpus
        place = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
        return self._ray.remote(Worker).options(scheduling_strategy=place, **options).remote()

    def call(self, handle: Any, method: str, *arguments: Any) -> Any:
        return getattr(handle, method).remote(*arguments)

    def share(self, value: Any) -> Any:
        return self._ray.put(value)

    def wait(self, references: Sequence[Any], seconds: float) -> list[Any]:
        end = time.monotonic() + seconds
        while references:
            arrived = self._ray.wait(list(references), num_returns=1, timeout=0)[0]
            if arrived or time.monotonic() >= end:
                return arrived
            time.sleep(POLL_SECONDS)  # here and not in Ray, which would turn every signal into Ctrl-C
        return []

    def fetch(self, reference: Any) -> Any:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self._ray.get(reference)
        except RayTaskError as error:
            raise LabFailure(f"ray: a worker failed: {_line(str(error.cause or error), last=True)}") from None
        except RayError as error:
            raise Lost(_line(str(error), last=getattr(error, "actor_init_failed", False))) from None

    def dismiss(self, handle: Any) -> None:
        self._ray.kill(handle)

    def close(self) -> None:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
        self._quiet.close()


def _try(address: str) -> None:
    """Raises LabError where no cluster of this Ray answers at `address`, after a bounded time."""
    host, _, port = address.rpartition(":")
    try:
        if host:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
        subprocess.run(
            below([sys.executable, "-c", _TRIAL, address]),
            check=True,
            capture_output=True,
            text=True,
            timeout=JOIN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        reason = f"it does not answer as a Ray cluster within {JOIN_SECONDS:.0f} s"
    except subprocess.CalledProcessError as error:
        reason = _line(error.stderr, last=True)
    except (OSError, OverflowError) as error:
        reason = str(error)
    else:
        return
    raise LabError(f"ray: cannot join {_named(address)}: {reason}")


@contextmanager
def _ray_to_itself(wanted: dict[str, str]) -> Iterator[None]:
    """Set the `wanted` variables that are not set yet, for Ray alone; and what SIGTERM does stays as it is."""
    missing = [name for name in wanted if name not in os.environ]
    before = signal.getsignal(signal.SIGTERM)
    os.environ.update({name: wanted[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
        signal.signal(signal.SIGTERM, before)


def _named(address: str) -> str:
    return "a local instance" if address == LOCAL else f"the cluster at {address}"


def _line(text: str, last: bool = False) -> str:
    """The first line that says something, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    return lines[-1 if last else 0]
