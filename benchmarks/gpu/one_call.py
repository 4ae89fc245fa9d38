"""One kernel on one captured call, for Nsight Compute: python -m benchmarks.gpu.one_call ROOT TARGET KERNEL WORKLOAD

Forward, and backward where the trainer needs it. Tuning and warming up come first; between cudaProfilerStart and -Stop
there is one call.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from autoresearch_cuda.probe.stopwatch import Call, outputs_of
from autoresearch_cuda.seam import KernelFile, load_kernel
from autoresearch_lab.bench.inputs import contents, has_gradient
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.engine import ENGINES
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.machine import context
from autoresearch_lab.paths import Root
from autoresearch_lab.profile.run import newest_workloads
from autoresearch_lab.sandbox.arrays import is_float


def main(root_path: str, target_name: str, kernel_name: str, workload_id: str) -> None:
    root = Root(Path(root_path))
    target = load_catalog(root)[target_name]
    found = newest_workloads(target_name, context(ENGINES["cuda"], root), root, Ledger(root.ledger))
    if found is None:
        raise SystemExit(f"error: no captured calls of {target_name}")
    workload = next(one for one in found.workloads if one["id"] == workload_id)
    arrays = contents(target, found, workload, np.random.default_rng(0))
    dtypes = {spec["name"]: getattr(torch, spec["dtype"]) for spec in workload["args"] if spec["kind"] == "array"}
    tensors = {
        # torch takes no bfloat16 from NumPy; every bfloat16 is exact in float32.
        name: torch.from_numpy(array.astype(np.float32) if is_float(array) else array).to(dtypes[name])
        for name, array in arrays.items()
    }
    plain = {**workload, "gradient": has_gradient(target, workload), "shifts": [1]}
    call = Call(plain, tensors, torch.device("cuda"))
    function = load_kernel(KernelFile.of(target.kernel(kernel_name, "torch").plain()))

    def once(number: int) -> None:
        outputs = [output for output in outputs_of(function(*call.arguments)) if output.requires_grad]
        if call.gradient:
            torch.autograd.grad(outputs, call.leaves, call.cotangents(outputs, number))

    for number in range(3):
        call.refill(number)
        once(number)
    call.refill(3)
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    once(3)
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main(*sys.argv[1:5])
