"""What a kernel's file holds, whatever the kernel is."""

from pathlib import Path

import pytest

from autoresearch_trainer.kernel_files import KernelFile, load_kernel
from autoresearch_trainer.probe.native_code import definitions

FUNCTION = "def relu_squared(x):\n    return x\n"
OBJECT = "class Kernel:\n    def __call__(self, *values):\n        return values[0]\n\n\nrelu_squared = Kernel()\n"
PARTIAL = "from functools import partial\n\nrelu_squared = partial(lambda y, x: x, 1)\n"


@pytest.mark.parametrize("text", [FUNCTION, OBJECT, PARTIAL], ids=["function", "object", "partial"])
def test_the_file_of_a_kernel_is_found_whatever_the_kernel_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(f"COLUMNS = 64\n{text}")
    kernel = load_kernel(KernelFile.at("relu_squared", path))
    assert definitions(kernel)["COLUMNS"] == 64


def test_of_a_function_that_no_kernel_file_holds_nothing_is_known() -> None:
    assert definitions(len) == {}
