"""A kernel whose results have another form than the baseline's ends the run in MLX, too, traced or not."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("mlx.core")

from autoresearch_mlx import engine
from autoresearch_mlx.kernel_files import INSTALLED
from autoresearch_trainer.errors import KernelFailed
from autoresearch_trainer.kernel_files import KernelFile
from autoresearch_trainer.loop import run

TEXT = "import mlx.core as mx\ndef rms_norm(x, eps):\n    y = mx.fast.rms_norm(x, None, eps)\n    return "


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_result_of_another_form_ends_the_run(config, dataset, tmp_path: Path, compiled: bool):
    for result, said in (("y.astype(mx.float32)", "float32"), ("y[:, :1]", "bfloat16")):
        path = tmp_path / f"{said}.py"
        path.write_text(TEXT + result + "\n")
        selection = {"rms_norm": KernelFile.at("rms_norm", path)}
        with pytest.raises(KernelFailed, match=rf"^kernel rms_norm={said} returned y as \[[\d, ]*\] {said}, not "):
            run(engine, replace(config, compile=compiled), selection, dataset, tmp_path / "out")


def test_a_right_one_and_an_update_train_on(config, dataset, tmp_path: Path):
    (tmp_path / "mine.py").write_text(TEXT + "y\n")
    update = Path(INSTALLED.installed_kernel("adamw_update").path).read_text() + "# another content\n"
    (tmp_path / "update.py").write_text(update)
    selection = {
        "rms_norm": KernelFile.at("rms_norm", tmp_path / "mine.py"),
        "adamw_update": KernelFile.at("adamw_update", tmp_path / "update.py"),
    }
    assert run(engine, config, selection, dataset, tmp_path / "out")["status"] == "complete"
