"""torch.compile never serves graphs of other kernels, nor code for other threads or of another compiler."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.compiler import config

from autoresearch_common import compiler
from autoresearch_cuda import compile_cache
from autoresearch_cuda.kernel_files import installed_kernel
from autoresearch_lab.paths import CHECKOUT
from autoresearch_trainer.kernel_files import KernelFile, load_kernel

# Only operators of its own: Inductor has nothing to fuse, so that compiling takes no C++ compiler.
KERNEL = """
import torch

@torch.library.custom_op("mylib::sq", mutates_args=())
def sq(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    return torch.relu(x).square() * scale

@torch.library.custom_op("mylib::sq_backward", mutates_args=())
def sq_backward(cotangent: torch.Tensor, x: torch.Tensor, factor: float) -> torch.Tensor:
    return cotangent * torch.relu(x) * factor

def backward(ctx, cotangent):
    return sq_backward(cotangent, *ctx.saved_tensors, 2.0), None

sq.register_fake(lambda x, scale=1.0: torch.empty_like(x))
sq_backward.register_fake(lambda cotangent, x, factor: torch.empty_like(x))
sq.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]))

def relu_squared(x):
    return sq(x)
"""
EDITS = {
    "backward": (", 2.0), None", ", 0.0), None", [4.0, 0.0]),
    "schema": ("scale: float = 1.0)", "scale: float = 3.0)", [12.0, 4.0]),
}
CALL = """
import json, sys
from pathlib import Path
import torch
from autoresearch_cuda import compile_cache
from autoresearch_trainer.kernel_files import KernelFile, load_kernel

function = torch.compile(load_kernel(KernelFile.at("relu_squared", Path(sys.argv[1]))), fullgraph=True)
x = torch.full((8,), 2.0, requires_grad=True)
y = function(x)
y.sum().backward()
print(json.dumps({"numbers": [y[0].item(), x.grad[0].item()], **compile_cache.used()}))
"""


def compiled_call(kernel: Path, cache: Path, threads: int = 1) -> dict:
    """[value, gradient] of the kernel at 2, compiled in a new process, and what that took from the cache."""
    variables = {"AUTORESEARCH_CACHE": str(cache), "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", CALL, str(kernel)]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A kernel, and a cache in which it has been compiled."""
    kernel, cache = tmp_path_factory.mktemp("kernel") / "mine.py", tmp_path_factory.mktemp("cache")
    kernel.write_text(KERNEL)
    found = compiled_call(kernel, cache)
    assert found["numbers"] == [4.0, 4.0] and found["found"] == 0 and found["made"] == 2 and found["seconds"] > 0
    return kernel, cache


def test_unchanged_content_is_taken_from_the_cache(first: tuple[Path, Path], tmp_path: Path):
    kernel, cache = first
    elsewhere = Path(shutil.copy(kernel, tmp_path / "renamed.py"))
    found = compiled_call(elsewhere, cache)
    assert found["numbers"] == [4.0, 4.0] and (found["found"], found["made"]) == (2, 0)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_operator_is_compiled_anew(edit: str, first: tuple[Path, Path], tmp_path: Path):
    before, after, expected = EDITS[edit]
    edited = tmp_path / "mine.py"
    edited.write_text(KERNEL.replace(before, after))
    found = compiled_call(edited, first[1])
    assert edited.read_text() != KERNEL and found["numbers"] == expected and found["found"] == 0


def test_another_number_of_threads_is_compiled_anew(first: tuple[Path, Path]):
    found = compiled_call(*first, threads=2)
    assert found["found"] == 0 and found["made"] == 2 and found["key"]["threads"] == 2


def test_graphs_are_looked_up_by_all_kernels_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path))
    monkeypatch.setenv(compile_cache.VARIABLE, "/one/folder/for/everything")
    monkeypatch.setattr(config, "cache_key_tag", "")
    kernels = [installed_kernel(target) for target in ("rms_norm", "rope", "mlp")]

    def place(*chosen: KernelFile) -> tuple[str, str]:
        compile_cache.follow(chosen)
        return os.environ[compile_cache.VARIABLE], config.cache_key_tag

    places = {place(*kernels), place(*kernels[:2]), place(*kernels[1::-1]), place()}
    (folder,) = {name for name, _ in places}
    assert len(places) == 4 and Path(folder).parent == tmp_path / "inductor"
    assert place(*kernels) in places
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert place(*kernels)[0] != folder


def test_a_kernel_is_in_the_key_before_its_code_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(compile_cache.VARIABLE, "before")
    kernel = tmp_path / "mine.py"
    kernel.write_text(f"import os\nseen = os.environ[{compile_cache.VARIABLE!r}]\ndef rope(x): return seen\n")
    assert load_kernel(KernelFile.at("rope", kernel))(0) == os.environ[compile_cache.VARIABLE] != "before"


def test_a_cache_that_cannot_be_written_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv(compile_cache.VARIABLE, "before")
    compile_cache.follow([])
    assert Path(os.environ[compile_cache.VARIABLE]).parent == compiler.temporary_folder() / "inductor"


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, compiler.COMPILERS)), reason="no C++ compiler")
def test_what_the_compiler_can_do_is_tried_once_for_all_folders(tmp_path: Path):
    """Two lists of kernels, so two folders: neither holds the trial's code, and the second process builds nothing, nor
    does it load it again."""
    script = f"""
import os, sys
from torch._inductor import cpu_vec_isa
from torch._inductor.cpu_vec_isa import VecISA
from autoresearch_cuda import compile_cache
cpu_vec_isa.supported_vec_isa_list[:] = [cpu_vec_isa.VecAVX2()]  # of a trial for each set one is enough here
load, loaded = getattr(VecISA, "_probe_load", None), []
if load is not None:
    VecISA._probe_load = lambda isa, path: loaded.append(path) or load(isa, path)
from autoresearch_cuda.kernel_files import installed_kernel
compile_cache.follow([installed_kernel(sys.argv[1])])
folder = os.environ[{compile_cache.VARIABLE!r}]
compile_cache.try_instructions()
assert os.environ[{compile_cache.VARIABLE!r}] == folder and not os.path.exists(folder)
assert load is None or bool(loaded) == (sys.argv[2] == "first")
"""
    seen = []
    first = "first" if torch.backends.cpu.get_cpu_capability() != "DEFAULT" else "none"
    for target, turn in (("rope", first), ("mlp", "second")):
        variables = {"AUTORESEARCH_CACHE": str(tmp_path), "PYTHONPATH": str(CHECKOUT), "TORCHINDUCTOR_VEC_ISA_OK": ""}
        command = [sys.executable, "-c", script, target, turn]
        done = subprocess.run(command, env={**os.environ, **variables}, text=True)
        assert done.returncode == 0
        built = (tmp_path / "inductor" / "instruction-sets").rglob("*.so")
        seen.append(sorted((str(path), path.stat().st_mtime_ns) for path in built))
    assert seen[0] == seen[1]
    assert seen[0] or torch.backends.cpu.get_cpu_capability() == "DEFAULT"
