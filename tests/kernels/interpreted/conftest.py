"""Tests that need Triton's interpreter, which must be chosen before Triton is imported: they are collected only in a
process with TRITON_INTERPRET=1, such as those that tests/kernels/test_triton_interpreted.py starts."""

import os

if os.environ.get("TRITON_INTERPRET") == "1":
    import triton.runtime.interpreter  # noqa: F401  the watch below is put on it

    from autoresearch_cuda.probe.interpreter import Watch

    Watch().install()
else:
    collect_ignore_glob = ["test_*.py"]
