"""At `upstream` the logits are 262,144 x 8,192 elements, just 2^31: every kernel that reads or makes them, there and
beyond."""

import pytest
import torch
from big_rows import LIMIT, errors
from trainer_calls import C, V

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import Root
from autoresearch_trainer.kernel_files import KernelFile, load_kernel

CATALOG = load_catalog(Root())
KERNELS = [
    pytest.param(name, kernel, id=f"{name}={kernel.name}")
    for name in ("softcap_cross_entropy", "loss_head")
    for kernel in CATALOG[name].kernels
    if kernel.language == "triton"
]
# Of what there is no baseline for: a wrong offset makes it wrong altogether.
LEAST = {"mean": 1e-3, "mean of the rows' losses": 1e-3, "gradient of the weights": 0.02}


@pytest.mark.parametrize("rows", [LIMIT // V, LIMIT // V + 4096, 4096], ids=["2^31", "beyond", "few"])
@pytest.mark.parametrize(("name", "kernel"), KERNELS)
def test_rows_are_right_wherever_they_lie(name, kernel, rows):
    target = CATALOG[name]
    mine, baseline = (
        load_kernel(KernelFile.of(one.plain())) for one in (kernel, target.baseline("torch", "cuda"))
    )  # fmt: skip
    found = errors(name, mine, baseline, rows, classes=V, width=C, device="cuda")
    torch.cuda.empty_cache()
    tolerance = target.contract.tolerance
    for what, (error, theirs) in found.items():
        floor = tolerance.floor["bfloat16" if what.startswith("gradient") else "float32"]
        allowed = LEAST.get(what) or max(tolerance.factor * theirs, floor)
        assert error <= allowed, f"{what}: {error:.3g}, allowed {allowed:.3g}"
