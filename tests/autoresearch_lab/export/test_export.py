"""Exported kernels run where this project is not, and carry what is known of them."""

import ast
import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest

from autoresearch_common import compiler
from autoresearch_lab.catalog import load_catalog
from autoresearch_lab.cli.app import main
from autoresearch_lab.errors import LabError
from autoresearch_lab.export.package import package, package_name
from autoresearch_lab.lab import Lab
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import Root
from autoresearch_lab.results.record import AbRecord, BenchRecord, VerifyRecord

torch = pytest.importorskip("torch")
TARGETS = load_catalog(Root())
# Forward and backward of what each of KERNELS loads, in another process, where the project cannot be found.
CALL = """
import importlib.util, numpy, sys, torch

def from_folder(folder):
    path = folder + "/__init__.py"
    spec = importlib.util.spec_from_file_location(f"any_{len(found)}", path, submodule_search_locations=[folder])
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

assert importlib.util.find_spec("autoresearch_lab") is None and importlib.util.find_spec("autoresearch_cuda") is None
given, found = numpy.load("given.npz"), {}
for load in KERNELS:
    kernel = load()
    x = torch.from_numpy(given["x"]).requires_grad_()
    y = kernel.rms_norm(x, 1e-6)
    assert "Generated" in y.grad_fn.name(), "its backward is none of torch.library"
    y.backward(torch.from_numpy(given["g"]))
    found |= {f"y{len(found) // 2}": y.detach().numpy(), f"dx{len(found) // 2}": x.grad.numpy()}
numpy.savez("found.npz", **found)
compiled = torch.compile(kernel.rms_norm, fullgraph=True, backend="eager")
assert torch.equal(compiled(x.detach(), 1e-6), y.detach())
"""


def has_compiler() -> bool:
    try:
        return bool(compiler.find())
    except compiler.CompilerMissing:
        return False


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """An empty environment to which PyTorch's folder was added; this project's link there is a .pth file, and such are
    not followed from one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    packages = next((folder / "env" / "lib").glob("python*/site-packages"))
    (packages / "torch.pth").write_text(str(Path(torch.__file__).parents[1]) + "\n", encoding="utf-8")
    return SimpleNamespace(python=python, packages=packages)


@pytest.fixture
def lab(root, context, monkeypatch):
    """A lab whose ledger says that rms_norm=cpp_fused is right and fast."""
    monkeypatch.setattr(Lab, "context", context)
    found = Lab.of(context, root, Ledger(root.ledger))
    target = TARGETS["rms_norm"]
    kernel = target.kernel("cpp_fused", "torch")
    common = {
        **context.fields(), "target": "rms_norm", "kernel": kernel.id,
        "settings": {"contract_sha256": target.contract_sha256},
    }  # fmt: skip
    checks = [{"name": name, "status": "pass"} for name in ("values", "gradients")]
    found.ledger.append(VerifyRecord, **common, verdict="PASS", results={"checks": checks})
    found.ledger.append(
        BenchRecord, **common, verdict="FASTER",
        results={"ratio": 1.66, "interval": (1.6, 1.71), "against": "torch_eager (compiled)"},
    )  # fmt: skip
    return found


def export(lab: Lab, folder: Path, *words: str) -> int:
    return main(["--engine", "cpu", "--root", str(lab.root.path), "export", *words, "--output", str(folder)])


def exported(lab: Lab, folder: Path, format_: str) -> Path:
    assert export(lab, folder, "rms_norm=cpp_fused", "--format", format_) == 0
    return folder


@needs_compiler
def test_all_formats_run_where_this_project_is_not(lab, elsewhere, tmp_path):
    """The wheel installed, the file alone under another name, and the Hub's folder as either version loads it."""
    (wheel,) = exported(lab, tmp_path / "wheel", "wheel").glob("*.whl")
    # Not looked for in this process: setuptools takes that for pip at work and lets the compiler's imports fail later.
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
        subprocess.run([*command, str(elsewhere.packages), str(wheel)], check=True, capture_output=True)
    else:
        ZipFile(wheel).extractall(elsewhere.packages)
    work = tmp_path / "work"
    work.mkdir()
    (file,) = exported(lab, tmp_path / "file", "file").glob("*.py")
    (work / "mine.py").write_bytes(file.read_bytes())
    variant = exported(lab, tmp_path / "hub", "hf-kernels") / "build" / "torch-cpu"
    kernels = ["__import__('rms_norm_cpp_fused')", "__import__('mine')"]
    kernels += [f"from_folder({str(folder)!r})" for folder in (variant, variant / "rms_norm_cpp_fused")]
    call = CALL.replace("KERNELS", f"[{', '.join(f'lambda: {kernel}' for kernel in kernels)}]")
    rng = np.random.default_rng(0)
    x, g = (rng.normal(size=(33, 70)).astype(np.float32) for _ in range(2))
    np.savez(work / "given.npz", x=x, g=g)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [elsewhere.python, "-c", call], cwd=work, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found, oracle = np.load(work / "found.npz"), TARGETS["rms_norm"].oracle
    given = {"x": x.astype(np.float64), "eps": 1e-6}
    y, dx = oracle.forward(given)[0], oracle.backward(given, (g.astype(np.float64),))["x"]
    for number in range(len(kernels)):
        np.testing.assert_allclose(found[f"y{number}"], y, rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(found[f"dx{number}"], dx, rtol=2e-5, atol=2e-6)


def test_it_is_said_what_the_evidence_says(lab, tmp_path, capsys):
    """A kernel that is right and no faster can be exported too: whoever does it is told."""
    assert export(lab, tmp_path / "out", "rms_norm=cpp_fused", "--format", "file") == 0
    assert "its card and its records say: verify PASS, bench FASTER" in capsys.readouterr().out


def test_a_wheel_lists_its_files_and_is_always_the_same(lab, tmp_path, capsys):
    assert export(lab, tmp_path / "out", "rms_norm=cpp_fused", "--json") == 0
    wheel = Path(json.loads(capsys.readouterr().out)["written"])
    with ZipFile(wheel) as archive:
        record = next(name for name in archive.namelist() if name.endswith("/RECORD"))
        listed = list(csv.reader(archive.read(record).decode().splitlines()))
        assert [path for path, _, _ in listed] == archive.namelist()
        for path, digest, size in listed[:-1]:
            content = archive.read(path)
            given = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={given}", len(content))
    again = exported(lab, tmp_path / "again", "wheel") / wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_layout_for_the_hub_is_the_one_that_it_asks_for(lab, tmp_path):
    variant = exported(lab, tmp_path / "out", "hf-kernels") / "build" / "torch-cpu"
    about = json.loads((variant / "metadata.json").read_text(encoding="utf-8"))
    assert about["name"] == "rms-norm-cpp-fused" and about["id"].isidentifier() and about["version"] == 1
    assert about["backend"] == {"type": "cpu"}
    files = {path.relative_to(variant).as_posix() for path in variant.rglob("*") if path.is_file()}
    assert files - {"metadata.json"} == set(about["digest"]["files"])
    for path, digest in about["digest"]["files"].items():
        assert base64.b64decode(digest) == hashlib.sha256((variant / path).read_bytes()).digest()


@needs_compiler
def test_the_package_kernels_loads_the_layout(lab, tmp_path):
    # By a module of it: the folder of this project has the same name as the package.
    kernels = pytest.importorskip("kernels.load")
    loaded = kernels.get_local_kernel(exported(lab, tmp_path / "out", "hf-kernels"))
    x = torch.randn(3, 5)
    torch.testing.assert_close(loaded.rms_norm(x, 1e-6), torch.nn.functional.rms_norm(x, (5,), eps=1e-6))


def test_card_and_records_say_what_was_measured(lab, tmp_path):
    assert export(lab, tmp_path / "out", "rms_norm=cpp_fused", "--format", "file") == 0
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| verify | PASS | 2 checks against a float64 oracle |" in text
    assert "| bench | FASTER | 1.660× [1.600, 1.710] against torch_eager (compiled) |" in text
    assert "No A/B counts for this content here." in text and "- device: key device, kind cpu" in text
    records = (tmp_path / "out" / "evidence.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in records] == ["verify", "bench"]
    kernels = {"rms_norm": "cpp_fused", "rope": "cpp_fused"}
    lab.ledger.append(
        AbRecord, **lab.context.fields(), verdict="PROMOTE",
        settings={
            "preset": "cpu-nano",
            "candidate": {
                name: {"name": kernel, "sha256": TARGETS[name].kernel(kernel, "torch").sha256}
                for name, kernel in kernels.items()
            },
        },
        results={"ratio": 1.25, "ratio_lower": 1.2, "ratio_upper": 1.3},
    )  # fmt: skip
    folder = exported(Lab.of(lab.context, lab.root), tmp_path / "again", "file")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| A/B, cpu-nano | PROMOTE | 1.250× [1.200, 1.300] tokens/s, with 1 more kernel |" in text


def test_what_is_not_verified_or_cannot_stand_alone_is_refused(lab, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").touch()
    for words, said in (
        (["rope=cpp_fused"], "rope=cpp_fused has not passed verification here; run verify first"),
        (["muon_update=torch_eager"], "muon_update=torch_eager calls the selected kernels of newton_schulz"),
        (["rms_norm=liger"], "rms_norm=liger calls the Python package liger-kernel; install that instead"),
        (["--kernel", "rms_norm=cpp_fused"], "a kernel is an argument: export rms_norm=cpp_fused"),
    ):
        assert export(lab, tmp_path / "out", *words) == 2
        assert said in capsys.readouterr().err
    assert export(lab, full, "rms_norm=cpp_fused") == 2
    assert not (tmp_path / "out").exists()


def test_a_workspaces_kernel_is_called_by_its_folder():
    kernel = replace(TARGETS["rms_norm"].kernel("torch_eager", "torch"), name="workspace:my-try")
    assert package_name(kernel) == "rms_norm_my_try" and package(kernel)


def test_every_kernel_that_can_stand_alone_is_whole():
    """Every relative import in its package is there, and it imports no library that PyTorch does not bring."""
    brought = {*sys.stdlib_module_names, "torch", "triton", "filelock", "pydantic"}
    for target in TARGETS.values():
        for kernel in target.kernels:
            try:
                tree = package(kernel)
            except LabError:
                continue
            for path, text in tree.items():
                if path.endswith(".py"):
                    _check_imports(path, text, tree, brought)


def _check_imports(path: str, text: str, tree: dict[str, str], brought: set[str]) -> None:
    folder = path.split("/")[:-1]
    for node in ast.walk(ast.parse(text)):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        assert {name.split(".")[0] for name in names} <= brought, path
        if isinstance(node, ast.ImportFrom) and node.level:
            base = "/".join([*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")])
            for one in node.names:
                assert {f"{base}.py", f"{base}/{one.name}.py"} & set(tree), (path, base, one.name)
