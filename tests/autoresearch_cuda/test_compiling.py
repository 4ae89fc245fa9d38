"""When the model is compiled, and that every kernel that can be selected leaves it one graph."""

import shutil
import tomllib
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import pytest
import torch

from autoresearch_common import compiler as system_compiler
from autoresearch_cuda import plan
from autoresearch_cuda.kernel_files import CallCounter, Ops, installed_kernel
from autoresearch_cuda.model import GPT
from autoresearch_cuda.plan import resolve_compile
from autoresearch_cuda.train import Trainer
from autoresearch_trainer.errors import ConfigError
from autoresearch_trainer.kernel_files import KERNELS_ROOT, TARGETS

FORWARD = [target for target in TARGETS if not target.endswith("update") and target != "newton_schulz"]


def contract(target: str) -> dict:
    return tomllib.loads((KERNELS_ROOT / target / "target.toml").read_text())


def cpu_kernels(target: str) -> list[str]:
    """The names that `--kernels target=...` takes on a CPU."""
    kernels = contract(target)["kernels"]
    return [k["name"] for k in kernels if k["framework"] == "torch" and "cpu" in k["devices"]]


def rounds(targets: list[str]) -> list[dict[str, str]]:
    """The first kernel of every target, the second of every target, ...: each kernel is in one of them."""
    columns = zip_longest(*(cpu_kernels(target) for target in targets))
    return [{target: name for target, name in zip(targets, names, strict=True) if name} for names in columns]


# By themselves: a composite target's kernel may leave nothing to do for those of its parts.
COMPOSITES = [target for target in FORWARD if contract(target)["replaces"]]
ROUNDS = rounds([target for target in FORWARD if target not in COMPOSITES]) + rounds(COMPOSITES)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_the_rounds_hold_every_kernel():
    assert sum(map(len, ROUNDS)) == sum(len(cpu_kernels(target)) for target in FORWARD) >= 2 * len(FORWARD)


@pytest.mark.skipif(not shutil.which("g++") and not shutil.which("c++"), reason="native kernels need a C++ compiler")
@pytest.mark.parametrize("names", ROUNDS, ids=lambda names: f"{next(iter(names))}... {next(iter(names.values()))}")
def test_the_model_is_one_graph_without_breaks(config, names: dict[str, str]):
    counter = CallCounter()
    ops = Ops.load({target: installed_kernel(target, name) for target, name in names.items()}, wrap=counter)
    model = GPT(config.model, ops)
    model.init_weights(0)
    idx = torch.zeros(2, config.model.sequence_len, dtype=torch.int64)
    explained = torch._dynamo.explain(model)(idx, idx)
    assert explained.graph_break_count == 0 and explained.graph_count == 1
    # The mask is a constant of the graph, built while it is traced.
    assert all(counter.traced[target] or target == "attention_mask" for target in names)
    attention = ops.kernels["windowed_attention"]
    needs_mask = 'part("attention_mask")' in Path(attention.path).read_text()
    assert bool(counter.traced["attention_mask"] or counter.eager["attention_mask"]) == needs_mask


def test_a_compiled_trainer_computes_what_the_eager_one_does(config, dataset):
    """Forward and backward traced as Inductor would get them, the graphs then run as they are."""
    losses = []
    for compiled in (False, True):
        trainer = Trainer(replace(config, compute_dtype="float32"), Ops.baseline(), dataset)
        if compiled:
            trainer.forward = torch.compile(trainer.model, backend="aot_eager", fullgraph=True, dynamic=False)
        losses.append([trainer.step().loss for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_without_pythons_headers_the_cpu_stays_eager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As on Debian without python3-dev: there is a compiler, and yet Inductor stops at Python.h."""
    monkeypatch.setattr(plan, "find", lambda: (("/usr/bin/g++",), "12"))
    monkeypatch.setattr(system_compiler.sysconfig, "get_path", lambda name: str(tmp_path))
    reason = f"no {tmp_path / 'Python.h'}; install Python's headers, for instance the package python3-dev"
    assert resolve_compile("auto", "cpu", None) == (False, reason)
    with pytest.raises(ConfigError, match="--compile on: no .*Python.h; install .*python3-dev"):
        resolve_compile("on", "cpu", None)
    assert resolve_compile("auto", "cuda", None) == (True, "a GPU")
    (tmp_path / "Python.h").touch()
    assert resolve_compile("on", "cpu", None) == (True, "asked for")


def test_auto_compiles_on_gpus_and_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "find", lambda: (("/usr/bin/g++",), "12"))
    monkeypatch.setattr(plan, "python_headers", lambda: Path("/usr/include/python3"))
    assert resolve_compile("auto", "cuda", None) == (True, "a GPU")
    for steps in (None, 12):
        assert resolve_compile("auto", "cpu", steps) == (True, "C++ compiler found: /usr/bin/g++")
    assert resolve_compile("auto", "cpu", 11) == (False, "too few steps for any to be timed")
    assert resolve_compile("on", "cpu", 2) == (True, "asked for")
    assert resolve_compile("off", "cuda", None) == (False, "asked for")


def test_without_a_compiler_the_cpu_stays_eager(monkeypatch: pytest.MonkeyPatch):
    def missing():
        raise system_compiler.CompilerMissing("no C++ compiler (g++ or c++)")

    monkeypatch.setattr(plan, "find", missing)
    assert resolve_compile("auto", "cpu", None) == (False, "no C++ compiler")
    with pytest.raises(ConfigError, match="--compile on: no C\\+\\+ compiler"):
        resolve_compile("on", "cpu", None)
    with pytest.raises(ConfigError, match="unknown compile mode 'yes'; known: auto, on, off"):
        resolve_compile("yes", "cpu", None)
