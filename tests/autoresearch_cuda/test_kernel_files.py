"""Loading kernels: by content hash, with parts, without fallback."""

import threading
from pathlib import Path

import pytest
import torch

from autoresearch_common.hashing import kernel_hash
from autoresearch_cuda import native
from autoresearch_cuda.kernel_files import CallCounter, Ops, installed_kernel, runs_when_traced
from autoresearch_trainer.errors import KernelChanged, KernelError
from autoresearch_trainer.kernel_files import TARGETS, KernelFile, load_kernel

DOUBLED = "def relu_squared(x):\n    return 2 * x.clamp(min=0) ** 2\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_target_has_a_baseline_that_ops_resolves():
    ops = Ops.baseline()
    assert set(ops.kernels) == set(TARGETS)
    assert all(callable(getattr(ops, t)) and ops.kernels[t].name == "torch_eager" for t in TARGETS)


def test_a_selected_kernel_replaces_the_baseline_as_object_or_json(tmp_path: Path):
    file = KernelFile.at("relu_squared", write(tmp_path / "kernel.py", DOUBLED))
    for form in (file, file.to_json()):
        ops = Ops.load({"relu_squared": form})
        assert ops.relu_squared(torch.tensor(3.0)) == 18
        assert ops.kernels["relu_squared"] == file and ops.kernels["rope"].name == "torch_eager"


def test_an_edited_kernel_is_refused(tmp_path: Path):
    file = KernelFile.at("relu_squared", write(tmp_path / "kernel.py", DOUBLED))
    write(tmp_path / "kernel.py", DOUBLED.replace("2 * x", "3 * x"))
    with pytest.raises(KernelChanged, match="relu_squared=kernel was edited") as caught:
        Ops.load({"relu_squared": file})
    assert caught.value.exit_code == 2


def test_native_source_beside_the_file_counts_as_content(tmp_path: Path):
    path = write(tmp_path / "kernel.py", DOUBLED)
    before = kernel_hash(path)
    write(tmp_path / "kernel.cpp", "int x;")
    assert kernel_hash(path) != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "does not load: ModuleNotFoundError"),
        ("def relu_squared(x) return x", "does not load: SyntaxError"),
        ("relu_squared = 3", "defines no function 'relu_squared'"),
        ("from autoresearch_cuda.kernel_files import part\npart('attention')", "unknown target 'attention'"),
    ],
)
def test_a_kernel_that_does_not_load_fails_with_one_line(tmp_path: Path, text: str, message: str):
    file = KernelFile.at("relu_squared", write(tmp_path / "kernel.py", text))
    with pytest.raises(KernelError, match=message) as caught:
        Ops.load({"relu_squared": file})
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused_with_the_known_ones(tmp_path: Path):
    with pytest.raises(KernelError, match="unknown target 'softmax'; known: rms_norm"):
        installed_kernel("softmax")
    with pytest.raises(KernelError, match="unknown kernel 'fast' for target 'rope'; known: .*torch_eager"):
        installed_kernel("rope", "fast")
    file = KernelFile.at("relu_squared", write(tmp_path / "kernel.py", DOUBLED))
    with pytest.raises(KernelError, match="unknown target 'softmax'"):
        Ops.load({"softmax": file})
    with pytest.raises(KernelError, match="is for target 'relu_squared'"):
        Ops.load({"rope": file})
    with pytest.raises(KernelError, match="lacks path, sha256"):
        Ops.load({"rope": {"target": "rope", "name": "x"}})
    (tmp_path / "kernel.py").unlink()
    with pytest.raises(KernelError, match="no such file"):
        Ops.load({"relu_squared": file})


def test_a_replaced_part_reaches_into_the_composite(tmp_path: Path):
    text = "import torch\ndef attention_mask(seq_len, window, like):\n    return torch.eye(seq_len).bool()\n"
    ops = Ops.load({"attention_mask": KernelFile.at("attention_mask", write(tmp_path / "diagonal.py", text))})
    q, v = torch.randn(1, 6, 1, 4), torch.randn(1, 6, 1, 4)
    torch.testing.assert_close(ops.windowed_attention(q, q, v, 2), v)
    assert not torch.allclose(Ops.baseline().windowed_attention(q, q, v, 2), v)


def test_a_file_loaded_alone_gets_baseline_parts():
    muon = load_kernel(installed_kernel("muon_update"))
    p, g = torch.randn(1, 4, 4), torch.randn(1, 4, 4)
    before = p.clone()
    muon(p, g, torch.zeros(1, 4, 4), torch.zeros(1, 4, 1), 0.9, 0.02, 0.0, 0.95, 5)
    assert p.isfinite().all() and not torch.equal(p, before)


def test_kernels_that_use_each_other_in_a_circle_are_refused(tmp_path: Path):
    text = "from autoresearch_cuda.kernel_files import part\npart('{}')\ndef {}(*args):\n    pass\n"
    selection = {
        target: KernelFile.at(target, write(tmp_path / f"{target}.py", text.format(other, target)))
        for target, other in (("rope", "rms_norm"), ("rms_norm", "rope"))
    }
    with pytest.raises(KernelError, match="circle: rms_norm -> rope -> rms_norm"):
        Ops.load(selection)


def test_calls_are_counted_through_composites_too():
    counter = CallCounter()
    ops = Ops.load(wrap=counter)
    ops.relu_squared(torch.ones(2))
    ops.relu_squared(torch.ones(2))
    p = torch.randn(1, 4, 4)
    ops.muon_update(p, p.clone(), torch.zeros(1, 4, 4), torch.zeros(1, 4, 1), 0.9, 0.02, 0.0, 0.95, 5)
    counted = {t: n for t, n in counter.eager.items() if n}
    assert counted == {"relu_squared": 2, "muon_update": 1, "newton_schulz": 1}


def test_what_a_run_loads_is_built_side_by_side(tmp_path, monkeypatch):
    begun, both = [], threading.Barrier(2, timeout=60)

    def build(source):
        begun.append(source.parent.name)
        if source.parent.name != "broken":
            both.wait()  # for the other: one after the other they never end
        raise native.CompileFailed("refused")

    monkeypatch.setattr(native, "build", build)
    monkeypatch.setattr("autoresearch_cuda.kernel_files.usable_cores", lambda: 2)
    kernels = []
    for name in ("one", "other", "broken", "python"):
        path = tmp_path / name / "kernel.py"
        path.parent.mkdir()
        path.write_text("")
        if name != "python":
            path.with_suffix(".cpp").write_text(f"// {name}\n")
        kernels.append(KernelFile.at("rms_norm", path))
    Ops.prepare(kernels)
    assert sorted(begun) == ["broken", "one", "other"]
    begun.clear()
    Ops.prepare(kernels[2:])  # one alone is left to its loading
    assert begun == []


def test_the_mark_of_a_function_that_runs_when_traced_is_pytorchs_own():
    def marked() -> None: ...

    def ours() -> None: ...

    assert vars(runs_when_traced(ours)) == vars(torch.compiler.assume_constant_result(marked)) != {}
