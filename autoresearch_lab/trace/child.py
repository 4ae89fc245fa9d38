"""The child side of `launch`: runs one job of an engine in a process that a tracing tool started.

Started as `python -m autoresearch_lab.trace.child REQUEST`; not meant to be run by hand. The answer is a file, since a
tool need not hand on the pipe that the sandbox's children answer through.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from autoresearch_trainer.jobs.failures import failure_kind

ANSWER = "answer.json"


def main(request_file: str) -> int:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    run_dir = Path(request["run_dir"])
    answer: dict[str, Any]
    try:
        jobs = importlib.import_module(f"{request['engine_package']}.probe").JOBS
        answer = {"value": jobs[request["job"]](request["args"], run_dir, lambda _: None)}
    except Exception as error:  # has to reach the parent as words
        answer = {"kind": failure_kind(error), "error": type(error).__name__, "message": str(error)[:2000]}
    (run_dir / ANSWER).write_text(json.dumps(answer), encoding="utf-8")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
