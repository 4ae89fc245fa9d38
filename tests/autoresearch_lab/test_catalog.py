"""The catalogue reads target.toml as data and refuses what it cannot vouch for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autoresearch_common.hashing import kernel_hash
from autoresearch_lab.catalog import find_target, load_catalog
from autoresearch_lab.errors import LabError
from autoresearch_lab.paths import CHECKOUT, Root

REQUIRED = {
    "rms_norm",
    "rope",
    "attention_mask",
    "windowed_attention",
    "newton_schulz",
    "softcap_cross_entropy",
    "relu_squared",
    "qk_prelude",
    "residual_norm",
    "mlp",
    "loss_head",
}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root with one real target, free to be edited."""
    shutil.copytree(CHECKOUT / "kernels" / "rms_norm", tmp_path / "kernels" / "rms_norm")
    return Root(tmp_path)


def test_every_shipped_target_loads_with_a_baseline_and_an_oracle() -> None:
    catalog = load_catalog(Root())
    assert REQUIRED <= set(catalog)
    for target in catalog.values():
        assert target.baseline("torch", "cpu").name == "torch_eager"
        assert all(hasattr(target.oracle, name) for name in ("forward", "inputs", "cost", "neighbours"))
        assert target.contract.signature.startswith("(" + ", ".join(a.name for a in target.contract.args) + ")")


def test_kernel_hash_covers_the_native_source_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    assert kernel_hash(tmp_path / "a.py") == kernel_hash(tmp_path / "b.py")
    (tmp_path / "b.cpp").write_text("int x;\n")
    assert kernel_hash(tmp_path / "a.py") != kernel_hash(tmp_path / "b.py")


def test_contract_hash_changes_with_tolerance_and_oracle_but_not_with_a_new_kernel(root: Root) -> None:
    folder = root.kernels / "rms_norm"
    before = load_catalog(root)["rms_norm"].contract_sha256
    toml = (folder / "target.toml").read_text()
    extra = '\n[[kernels]]\nname="mine"\nframework="torch"\ndevices=["cpu"]\nrole="candidate"\nlanguage="python"\n'
    (folder / "mine.py").write_text("")
    (folder / "target.toml").write_text(toml + extra + 'file="mine.py"\n')
    assert load_catalog(root)["rms_norm"].contract_sha256 == before
    (folder / "oracle.py").write_text((folder / "oracle.py").read_text() + "\n# edited\n")
    assert load_catalog(root)["rms_norm"].contract_sha256 != before


def test_a_library_kernel_is_an_arm_only_where_its_package_is_installed(root: Root) -> None:
    path = root.kernels / "rms_norm" / "target.toml"
    text = path.read_text().replace('requires = "quack-kernels"', 'requires = "nor-this-one"')  # whatever is installed
    path.write_text(text.replace('requires = "liger-kernel"', 'requires = "no-such-package"'))
    target = load_catalog(root)["rms_norm"]
    assert [kernel.name for kernel in target.with_role("library", "torch", "cuda")] == ["torch_library"]
    missing = target.kernel("liger", "torch")
    assert missing.obstacle("cuda") == "needs the Python package no-such-package, which is not installed"
    path.write_text(path.read_text().replace('requires = "no-such-package"', 'requires = "pytest"'))
    found = load_catalog(root)["rms_norm"].with_role("library", "torch", "cuda")
    assert sorted(kernel.name for kernel in found) == ["liger", "torch_library"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "rms_norm"', 'name = "other"', "folder is 'rms_norm'"),
        ("\nfactor", "\nfactr", "tolerance"),
        ("[tolerance]", "[tolerance", "target.toml"),
        ("torch_eager.py", "gone.py", "gone.py is missing"),
    ],
)
def test_a_bad_contract_is_one_clear_error(root: Root, old: str, new: str, message: str) -> None:
    path = root.kernels / "rms_norm" / "target.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LabError, match=message):
        load_catalog(root)


def test_a_kernel_without_its_file_is_no_kernel_and_stops_nothing_else(root: Root) -> None:
    (root.kernels / "rms_norm" / "cpp_fused.py").unlink()
    target = load_catalog(root)["rms_norm"]
    assert [entry.name for entry in target.missing] == ["cpp_fused"] and target.baseline("torch", "cpu")
    with pytest.raises(LabError, match="kernel rms_norm=cpp_fused: its file is missing: .*cpp_fused.py"):
        target.kernel("cpp_fused", "torch")


def test_a_target_whose_contract_is_a_link_to_nowhere_is_told_of(root: Root) -> None:
    contract = root.kernels / "rms_norm" / "target.toml"
    contract.unlink()
    contract.symlink_to(contract)
    with pytest.raises(LabError, match=r"cannot read .*rms_norm/target\.toml: Too many levels of symbolic links"):
        load_catalog(root)


def test_unknown_names_list_the_known_ones(root: Root) -> None:
    catalog = load_catalog(root)
    with pytest.raises(LabError, match="unknown target 'nope'; known: rms_norm"):
        find_target(catalog, "nope")
    with pytest.raises(LabError, match="no torch kernel 'nope'; known: .*torch_eager"):
        catalog["rms_norm"].kernel("nope", "torch")
    with pytest.raises(LabError, match="no targets"):
        load_catalog(Root(root.path / "empty"))
