"""Events as PyTorch's profiler writes them, and files of them."""

import gzip
import json

MAIN, AUTOGRAD, STREAM = 100, 101, 7


def event(category, name, start, duration, thread=MAIN, pid=1, **about):
    """Times in microseconds, as in the file."""
    return {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": thread, "ts": start, "dur": duration,
            "args": about}  # fmt: skip


def launch(correlation, at, thread=MAIN, pid=1, **about):
    return event("cuda_runtime", "cudaLaunchKernel", at, 1.0, thread, pid, correlation=correlation, **about)


def kernel(name, correlation, start, duration, device=0, **about):
    about = {"device": device, "stream": STREAM, "correlation": correlation, **about}
    return event("kernel", name, start, duration, STREAM, pid=device, **about)


def operator(name, start, duration, thread=MAIN, sequence=None, forward_thread=0, pid=1):
    about = {} if sequence is None else {"Sequence number": sequence, "Fwd thread id": forward_thread}
    return event("cpu_op", name, start, duration, thread, pid, **about)


def annotation(name, start, duration, thread=MAIN, pid=1):
    return event("user_annotation", name, start, duration, thread, pid)


def write(path, events, **others):
    content = json.dumps({**others, "traceEvents": [*events, {"ph": "M", "name": "process_name"}]}).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
