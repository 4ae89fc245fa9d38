"""A kernel whose results have another form than the baseline's ends the run, eager and compiled, with a line."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from autoresearch_cuda import engine
from autoresearch_cuda.forms import MOST_UPDATES, Forms
from autoresearch_cuda.kernel_files import Ops
from autoresearch_trainer.errors import KernelFailed
from autoresearch_trainer.kernel_files import KernelFile, load_kernel
from autoresearch_trainer.loop import run

RMS = "import torch\ndef rms_norm(x, eps):\n    y = torch.nn.functional.rms_norm(x, x.shape[-1:], eps=eps)\n"
LOSS = (
    "import torch\nfrom torch.nn.functional import cross_entropy\n"
    "def softcap_cross_entropy(logits, targets, softcap, reduction='mean'):\n"
    "    z = softcap * torch.tanh(logits.float() / softcap)\n"
    "    y = cross_entropy(z, targets, ignore_index=-1, reduction=reduction)\n"
)
# Target, kernel, what is said of it.
WRONG = {
    "dtype": ("rms_norm", RMS + "    return y.float()\n", r"y as \[2, 32, 32\] float32, not \[2, 32, 32\] bfloat16"),
    "shape": ("rms_norm", RMS + "    return y[:, :1]\n", r"y as \[2, 1, 32\] bfloat16, not \[2, 32, 32\] bfloat16"),
    "loss": ("softcap_cross_entropy", LOSS + "    return y.bfloat16()\n", r"loss as \[\] bfloat16, not \[\] float32"),
    "number": ("rms_norm", RMS + "    return y, y\n", "2 values, not 1"),
}


def selected(target: str, text: str, path: Path) -> dict[str, KernelFile]:
    path.write_text(text)
    return {target: KernelFile.at(target, path)}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", WRONG)
def test_a_result_of_another_form_ends_the_run(config, dataset, tmp_path: Path, name: str, compiled: bool):
    target, text, said = WRONG[name]
    selection = selected(target, text, tmp_path / "mine.py")
    with pytest.raises(KernelFailed, match=f"^kernel {target}=mine returned {said}$"):
        run(engine, replace(config, compile=compiled), selection, dataset, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"


def forms(target: str, text: str, path: Path):
    """(the wrapped kernel, how often it was looked at)"""
    chosen = selected(target, text, path)
    made = Forms(chosen, "cpu")
    looks = []
    made.compare = lambda *args: looks.append(args)  # type: ignore[method-assign]
    return made.wrap(target, load_kernel(chosen[target])), looks


def test_a_signature_is_looked_at_once_in_each_mode(tmp_path: Path):
    kernel, looks = forms("rms_norm", RMS + "    return y\n", tmp_path / "mine.py")
    for size in (8, 8, 16):
        kernel(torch.ones(2, size), 1e-6)
        with torch.no_grad():
            kernel(torch.ones(2, size), eps=1e-6)
    assert len(looks) == 4
    graph = torch.compile(kernel, backend="eager", fullgraph=True)
    graph(torch.ones(2, 8), 1e-6)
    graph(torch.ones(2, 8), 1e-6)
    assert len(looks) == 5


ADAMW = "from autoresearch_cuda.kernel_files import part\nother = part('adamw_update')\n"


def adamw_arguments(gradient: float) -> dict[str, object]:
    tensors = {"p": torch.ones(4), "grad": torch.full((4,), gradient), "exp_avg": torch.zeros(4)}
    scalars = {"step": 1, "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0}
    return {**tensors, "exp_avg_sq": torch.zeros(4), **scalars}


def test_what_is_updated_in_place_has_to_change_where_the_baseline_changes_it(tmp_path: Path):
    lazy = "def adamw_update(p, grad, exp_avg, exp_avg_sq, *rest):\n    return p, exp_avg, exp_avg_sq\n"
    kernel, _ = forms("adamw_update", lazy, tmp_path / "lazy.py")
    names = Forms(selected("adamw_update", lazy, tmp_path / "lazy.py"), "cpu").contracts["adamw_update"].arguments
    given = SimpleNamespace(**adamw_arguments(0.0))
    kernel(*[getattr(given, name) for name in names])  # nothing to do, so nothing is proved
    with pytest.raises(KernelFailed, match="^kernel adamw_update=lazy left p as it was, which it has to update in pl"):
        kernel(*[adamw_arguments(1.0)[name] for name in names])
    honest, looks = forms("adamw_update", ADAMW + "adamw_update = lambda *a: other(*a)\n", tmp_path / "honest.py")
    for gradient in [0.0, 0.0, 1.0, 1.0, 1.0]:
        honest(*[adamw_arguments(gradient)[name] for name in names])
    assert len(looks) == 3
    for _ in range(2 * MOST_UPDATES):
        honest(*[{**adamw_arguments(0.0), "p": torch.ones(2, 2), "grad": torch.zeros(2, 2),
                  "exp_avg": torch.zeros(2, 2), "exp_avg_sq": torch.zeros(2, 2)}[name] for name in names])  # fmt: skip
    assert len(looks) == 3 + MOST_UPDATES


def test_the_baseline_is_left_as_it_is():
    chosen = {"rms_norm": Ops.installed.installed_kernel("rms_norm")}
    function = load_kernel(chosen["rms_norm"])
    assert Forms(chosen, "cpu").wrap("rms_norm", function) is function
