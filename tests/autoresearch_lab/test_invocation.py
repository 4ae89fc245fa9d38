"""Suggested commands lead to the lab and the engine that they were suggested by."""

import shlex
from pathlib import Path

import pytest

from autoresearch_lab import invocation
from autoresearch_lab.catalog import Kernel, load_catalog
from autoresearch_lab.cli import app
from autoresearch_lab.invocation import command_line, program
from autoresearch_lab.paths import CHECKOUT, Root


@pytest.fixture(autouse=True)
def automatic(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(invocation, "automatic", lambda: "cpu")


def test_global_options_are_named_where_they_are_needed(tmp_path: Path):
    assert program(CHECKOUT) == program(CHECKOUT, "cpu") == "kernel-lab"
    assert program(CHECKOUT, "cuda") == "kernel-lab --engine cuda"
    assert shlex.split(program(tmp_path / "a lab", "mlx")) == [
        "kernel-lab", "--root", str(tmp_path / "a lab"), "--engine", "mlx",
    ]  # fmt: skip


def test_every_verb_gets_the_kernel_in_the_same_words(tmp_path: Path):
    target = load_catalog(Root())["rms_norm"]
    kernel = target.kernel("torch_library", "torch")
    lab = "kernel-lab --engine cuda"
    assert command_line("bench", target, kernel, "cuda") == f"{lab} bench rms_norm=torch_library"
    assert command_line("ab", target, kernel, "cuda", "--again") == f"{lab} ab rms_norm=torch_library --again"
    mine = Kernel("rms_norm", "workspace:w", "torch", ("cpu",), "candidate", "python", tmp_path / "my w" / "kernel.py")
    assert command_line("promote", target, mine, "cpu") == f"kernel-lab promote '{tmp_path / 'my w'}'"


def test_promotion_check_of_a_workspace_names_a_command_that_works(opened, context, root: Root, monkeypatch, capsys):
    workspace, ledger = opened
    monkeypatch.setattr("autoresearch_lab.machine.context", lambda *_: context)
    monkeypatch.setattr(invocation, "automatic", lambda: "mlx")
    given = ["--root", str(root.path), "--engine", "cpu"]
    assert app.main([*given, "promotion-check", "--workspace", str(workspace.folder)]) == 1
    told = capsys.readouterr().out.splitlines()
    (line,) = (line.removeprefix("next: ") for line in told if line.startswith("next: "))
    assert shlex.split(line) == ["kernel-lab", *given, "verify", str(workspace.folder)]
    assert app.main([*given, "promotion-check", f"rope=workspace:{workspace.folder}"]) == 2
    assert "is a workspace of target rms_norm, not rope" in capsys.readouterr().err
    assert app.main([*given, "promotion-check"]) == 2
    assert "name a kernel (TARGET=NAME or the folder of a workspace), or a target" in capsys.readouterr().err
