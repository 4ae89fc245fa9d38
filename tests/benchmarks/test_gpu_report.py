"""What is shown of a call of benchmarks/gpu.sh: on the terminal, and in docs/gpu-results.md."""

import pytest

from autoresearch_lab.campaign.gpu.table import table
from autoresearch_lab.paths import CHECKOUT
from benchmarks.gpu import report

from .examples import measured, read


def test_the_table_says_what_was_measured_and_what_was_not():
    text = table(read(measured()))
    assert (
        "rms_norm=triton_fused" in text
        and "FASTER" in text
        and "x1.10 [1.05, 1.15] against torch_eager (compiled); 80%" in text
    )
    assert "counters: failed: ncu: no permission" in text
    assert "x1.100 tokens/s, val_bpb -0.0010 (verified and FASTER)" in text


def test_the_page_has_every_arm_with_its_ratio_and_its_share_of_the_ceiling():
    lines = report.page(read(measured())).splitlines()
    call = "| 8x2048x512, 00000001 | both |"
    assert f"{call} baseline | 30.0 | 28.0 | 53% | copy bandwidth | 1.500 [1.400, 1.600] |" in lines
    assert f"{call} torch_eager (compiled) | 22.0 | - | 73% | copy bandwidth | 1.100 [1.050, 1.150] |" in lines
    assert f"{call} **triton_fused** | 20.0 | 19.0 | 80% | copy bandwidth | - |" in lines
    assert sum("8x2048x512, 00000001 | forward" in line for line in lines) == 3
    assert (
        "### `rms_norm=triton_fused`: FASTER, x1.100 [1.050, 1.150] against torch_eager (compiled)" in lines
        and "- rope=triton_fused: not yet measured, verify: FAIL" in lines
    )


def test_the_page_says_what_was_trained_with_and_what_is_missing():
    page = report.page(read(measured()))
    assert "chosen by this rule: verified and FASTER. They are: rms_norm." in page and "1,100,000" in page
    assert "- counters: ncu: no permission" in page and "rope=triton_fused: left out, failed verification" in page
    assert "rms_norm backward | 36 | 400" in page


@pytest.mark.parametrize(
    ("speedup", "bits", "words"),
    [(1.1, None, "x1.100 tokens/s"), (None, -0.001, "val_bpb -0.0010"), (None, None, None)],
)
def test_an_arm_without_speed_or_val_bpb_is_shown_as_far_as_it_came(speedup, bits, words):
    result = measured()
    result["parts"]["train"]["found"] |= {"speedup": speedup, "val_bpb_difference": bits}
    for text in (table(read(result)), report.page(read(result))):
        assert (words is None or words in text) and "None" not in text
        assert ("val_bpb -0.0010" in text) == (bits is not None) and ("x1.100 tokens/s" in text) == (
            speedup is not None
        )


def test_failed_gpu_tests_are_shown():
    result = measured()
    for text in (table(read(result)), report.page(read(result))):
        assert "30 passed, 1 failed, 0 errors, 2 skipped; time was over before the last" in text
        assert "FAILED tests/gpu/test_gpu_kernels.py::test_a[rope]" in text


def test_readings_of_the_hardware_counters_are_on_the_page():
    result = measured()
    launches = [{"kernel": "_rows", "duration": "12.5 us"}, {"kernel": "_rest", "occupancy, %": "40"}]
    found = {"kernel": "rope=triton_fused", "workload": "rope-00000001", "launches": launches}
    result["parts"]["counters"] = {"state": "done", "reason": "", "seconds": 1.0, "found": found}
    page = report.page(read(result))
    assert "rope=triton_fused on rope-00000001" in page and "| kernel | duration | occupancy, % |" in page
    assert "| _rows | 12.5 us | - |" in page and "| _rest | - | 40 |" in page


def test_what_a_call_did_not_come_to_is_not_yet_measured():
    page = report.page(read({**measured(), "parts": {}}))
    assert page.count("\nnot yet measured\n") == len(report.SECTIONS) and "not yet measured" in report.page(None)


def test_the_committed_page_is_what_the_command_writes():
    page = (CHECKOUT / report.PAGE).read_text(encoding="utf-8")
    assert page.startswith(report.HEAD)
    if "## Kernels" not in page:
        assert page == report.page(None)
