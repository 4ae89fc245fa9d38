"""Every Metal kernel of the catalogue through all checks of `verify`, compiled for the CPU."""

import pytest
from metal_support import KERNELS, NAMES, needs_metal_cpu, verify_on_cpu

pytestmark = needs_metal_cpu


@pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)
def test_kernel_passes_verify_on_the_cpu(kernel, tmp_path):
    record = verify_on_cpu(kernel, tmp_path)
    assert record.verdict == "PASS", (record.results.failed_check, record.results.reason)
    assert record.settings.interpreted
    assert record.engine == "mlx" and record.device["kind"] == "metal-cpu"
    statuses = {check.name: check.status for check in record.results.checks}
    assert statuses["really_ran"] == "pass"
    launches = record.results.launches
    assert launches["fast"] >= launches["checked"] > 20
