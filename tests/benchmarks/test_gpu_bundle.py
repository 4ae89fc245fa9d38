"""What travels to a machine with a GPU: it fits, or says so; and in a clean environment with that machine's packages
and the bundle's wheels alone, the lab is imported, a confined job runs and the table is printed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autoresearch_lab.campaign.gpu import archive, packages
from autoresearch_lab.errors import LabError, LabFailure
from benchmarks.gpu import bundle

# As much of PyTorch as describing a machine and one eager kernel take.
TORCH = {
    "version.py": "__version__, cuda = '2.11.0', None\n",
    "compiler.py": "class config: cache_key_tag = ''\n",
    "__init__.py": """
from torch.version import __version__
import torch.nn.functional
class Tensor:
    def square(self): return self
class _Backends:
    cpu = type("cpu", (), {"get_cpu_capability": staticmethod(lambda: "NONE")})
backends, bfloat16 = _Backends, "bfloat16"
def device(name): return type("device", (), {"type": name})
def ones(*shape, **options): return Tensor()
def relu(x): return x
def get_num_threads(): return 1
""",
    "nn/__init__.py": "",
    "nn/functional.py": "def relu(x): return x\n",
}
VERBS = ("profile", "verify", "bench", "run", "deep-profile")


@pytest.fixture
def light(monkeypatch):
    """A bundle without downloads and data."""
    monkeypatch.setattr(bundle, "download", lambda names, to: to.mkdir(parents=True, exist_ok=True))
    monkeypatch.setattr(bundle, "_copy_data", lambda to: _write(to, {"dataset.json": "{}"}))


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_the_rivals_are_shared_out_to_both_trips(light, monkeypatch, tmp_path):
    packed = tmp_path / "packed"
    packed.write_bytes(os.urandom(3000))
    monkeypatch.setattr(bundle, "_pack_rivals", lambda scratch: packed)
    monkeypatch.setattr(bundle, "_copy_checkout", lambda to: 500)
    monkeypatch.setattr(bundle, "MOST_BYTES", 2500)
    sizes = bundle.make(tmp_path / "b")
    parts = [(tmp_path / "b" / name).read_bytes() for name in ("1/rivals.0", "2/rivals.1")]
    assert sizes["2"] == 2000 and b"".join(parts) == packed.read_bytes()
    assert bundle.make(tmp_path / "b", rivals=False).keys() == {"1"} and not (tmp_path / "b" / "2").exists()
    monkeypatch.setattr(bundle, "MOST_BYTES", 1500)
    with pytest.raises(LabError, match="both trips would take .* MiB, and beside the checkout's own files .* are left"):
        bundle.make(tmp_path / "b")


def test_a_trip_that_is_too_large_is_refused_in_a_line(light, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bundle, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(sys, "argv", ["bundle", str(tmp_path / "b"), "--no-rivals"])
    with pytest.raises(SystemExit) as end:
        bundle.main()
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.startswith("error: bundle: the first trip") and len(told.splitlines()) == 1


def test_a_folder_of_something_else_is_left_alone(light, tmp_path):
    _write(tmp_path / "1", {"mine": "text"})
    with pytest.raises(LabError, match="is no bundle"):
        bundle.make(tmp_path)
    assert (tmp_path / "1" / "mine").is_file()


def _interpreter() -> Path:
    """Python 3.12, as the machine has; where there is none, this one."""
    found = [shutil.which("python3.12"), *Path.home().glob(".pyenv/versions/3.12*/bin/python3.12")]
    works = (one for one in found if one and subprocess.run([one, "-V"], capture_output=True).returncode == 0)
    return Path(next(works, sys.executable))


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Path:
    """The Python of an environment with the machine's packages alone, stand-ins for PyTorch and Triton among them."""
    folder = tmp_path_factory.mktemp("machine")
    subprocess.run([_interpreter(), "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    names = [name for name in packages.MACHINE if name not in ("torch", "triton")]
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", *names], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"the machine's packages cannot be had here: {done.stderr.splitlines()[-1]}")
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    _write(site / "torch", TORCH)
    _write(site / "triton", {"__init__.py": ""})
    for name, version in (("torch", "2.11.0"), ("triton", "3.6.0")):
        _write(site / f"{name}-{version}.dist-info", {"METADATA": f"Name: {name}\nVersion: {version}\n"})
    return python


def test_a_bundle_alone_is_enough_on_a_bare_machine(machine, monkeypatch, tmp_path):
    version = subprocess.run([machine, "-V"], capture_output=True, text=True).stdout.split()[1].rpartition(".")[0]
    wanted = [version if word == "3.12" else word for word in bundle.FOR_THE_MACHINE]
    monkeypatch.setattr(bundle, "FOR_THE_MACHINE", wanted)
    monkeypatch.setattr(bundle, "_copy_data", lambda to: _write(to, {"dataset.json": "{}"}))
    try:
        bundle.make(tmp_path, rivals=False)
    except LabFailure as failure:
        pytest.skip(f"the wheels cannot be had here: {failure}")
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment |= {"PYTHON": str(machine), "HOME": str(tmp_path), "OUT": str(tmp_path / "out")}
    environment |= {"AUTORESEARCH_LOCKS": str(tmp_path)}  # whoever else uses the CPU meanwhile
    command = ["sh", tmp_path / "1" / "benchmarks" / "gpu.sh", "--rehearse", "--parts", "confined,data"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd="/")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / archive.RESULT).read_text())
    assert {name: part["state"] for name, part in result["parts"].items()} == {"confined": "done", "data": "done"}
    assert result["parts"]["confined"]["found"]["found"] == {"device": None, "torch_eager": None}
    assert result["machine"]["software"]["torch"] == "2.11.0" and "s in all" in done.stdout
    assert result["commit"] == (tmp_path / "1" / bundle.COMMIT).read_text().strip()
    assert not result["packages"]["missing"]
    # What the judging verbs and the tests for a GPU import is there as well.
    lab = tmp_path / "lab"
    paths = {"PYTHONPATH": str(lab / "build" / "gpu-packages")}
    asked = [machine, "-c", "import runpy; runpy.run_path('tests/conftest.py')"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=60, env={**environment, **paths}, cwd=lab)
    assert told.returncode == 0, told.stderr
    for verb in VERBS:
        asked = [machine, lab / "kernel-lab.py", verb, "--help"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=60, env={**environment, **paths})
        assert told.returncode == 0 and "Usage" in told.stdout, told.stderr
