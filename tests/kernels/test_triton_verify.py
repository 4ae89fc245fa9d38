"""Every Triton kernel of the catalogue through all checks of `verify`, run by Triton's interpreter."""

import pytest
from triton_support import KERNELS, NAMES, needs_triton, verify_interpreted

pytestmark = needs_triton


@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_kernel_passes_verify_through_the_interpreter(kernel, tmp_path):
    record = verify_interpreted(kernel, tmp_path)
    assert record.verdict == "PASS", (record.results.failed_check, record.results.reason)
    assert record.settings.interpreted
    assert record.engine == "cuda" and record.device["kind"] == "interpreter"
    statuses = {check.name: check.status for check in record.results.checks}
    assert statuses["really_ran"] == "pass"
    assert record.results.configurations
    # In every dtype that verify asks for there is a baseline to judge by.
    assert not [why for why in record.results.not_judged.values() if "the baseline raises" in why]
