"""The check of kernels on 2^31 logits (tests/gpu/big_rows.py), small, on the CPU: right passes, wrong rows do not."""

import sys

import pytest

from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_trainer.kernel_files import KernelFile, load_kernel

sys.path.insert(0, str(CHECKOUT / "tests" / "gpu"))
from big_rows import errors, sampled

CATALOG = load_catalog(Root())


def test_rows_on_either_side_of_the_limit_are_among_the_samples():
    rows = (1 << 31) // 8192
    assert {0, rows - 1} <= set(sampled(rows, 8192)) and {rows - 1, rows, rows + 1} <= set(sampled(rows + 4096, 8192))


@pytest.mark.parametrize("name", ["softcap_cross_entropy", "loss_head"])
def test_what_is_right_has_the_baselines_errors_and_a_wrong_row_shows(name):
    baseline = load_kernel(KernelFile.of(CATALOG[name].baseline("torch", "cpu").plain()))

    def wrong(*arguments):
        return baseline(arguments[0].roll(1, 0), *arguments[1:])

    right, broken = (errors(name, one, baseline, 300, classes=64, width=16, device="cpu") for one in (baseline, wrong))
    assert all(error <= 2 * max(theirs, 0.01) for error, theirs in right.values())
    for what in ("losses of rows", "gradients of rows"):
        assert right[what][0] <= 1.5 * right[what][1] and broken[what][0] > 0.1
