"""The child side: reads a job file, confines itself, runs the job, answers through the pipe.

Started by `parent` as `python -m autoresearch_lab.sandbox.child JOBFILE`, or forked by `fork_server`; not meant to be
run by hand.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from autoresearch_common import sanitizer
from autoresearch_lab.sandbox.limits import Limits, apply_in_child
from autoresearch_lab.sandbox.protocol import encode
from autoresearch_lab.sandbox.supervisor import oversee
from autoresearch_trainer.jobs.failures import failure_kind


def main(job_file: str) -> int:
    sanitizer.begin()
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    if not oversee(job["end_pipe"]):
        os.close(job["end_pipe"])  # the lab takes what comes through it for the supervisor's word
    nonce, pipe = job["nonce"], job["pipe"]

    def send(event: str, **fields: Any) -> None:
        data = memoryview(encode(nonce, event, **fields))
        while data:
            data = data[os.write(pipe, data) :]

    try:
        planted = Path(job["planted"]) if job["planted"] else None
        unenforced = apply_in_child(Limits.of(job["limits"]), Path(job["run_dir"]), planted)
        jobs = importlib.import_module(f"{job['engine_package']}.probe").JOBS
        send("ready", unenforced=unenforced)
        value = jobs[job["job"]](job["args"], Path(job["run_dir"]), lambda fields: send("progress", **fields))
        send("result", value=value)
    except BaseException as error:  # whatever a candidate raises has to reach the parent as words
        traceback.print_exc()  # in whole, for people
        kind, last = failure_kind(error), traceback.format_exc(limit=-6)
        send("error", kind=kind, type=type(error).__name__, message=str(error)[:2000], traceback=last[-4000:])
        return 1
    return 0


def run(job_file: str) -> NoReturn:
    code = main(job_file)
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip interpreter shutdown: what a candidate registered for exit is not part of the job.
    os._exit(code)


if __name__ == "__main__":
    run(sys.argv[1])
