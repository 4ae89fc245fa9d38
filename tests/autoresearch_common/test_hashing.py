"""The content hashes that evidence is keyed by."""

import hashlib

import pytest

from autoresearch_common.hashing import file_sha256, json_sha256, kernel_hash


def test_kernel_hash_is_the_documented_byte_string(tmp_path):
    (tmp_path / "a.py").write_bytes(b"def f(): pass\n")
    (tmp_path / "a.cpp").write_bytes(b"int x;")
    expected = hashlib.sha256(b".cpp\x006\x00int x;" + b".py\x0014\x00def f(): pass\n").hexdigest()
    assert kernel_hash(tmp_path / "a.py") == expected


def test_kernel_hash_ignores_the_stem_and_other_files(tmp_path):
    for stem in ("cpp_fused", "kernel"):
        (tmp_path / f"{stem}.py").write_text("x = 1\n")
        (tmp_path / f"{stem}.metal").write_text("kernel void f() {}\n")
    before = kernel_hash(tmp_path / "cpp_fused.py")
    (tmp_path / "cpp_fused.txt").write_text("notes")
    assert before == kernel_hash(tmp_path / "kernel.py") == kernel_hash(tmp_path / "cpp_fused.py")


@pytest.mark.parametrize("suffix", [".py", ".cpp"])
def test_kernel_hash_sees_every_byte(tmp_path, suffix):
    (tmp_path / "k.py").write_text("x = 1\n")
    (tmp_path / "k.cpp").write_text("int x;\n")
    before = kernel_hash(tmp_path / "k.py")
    path = tmp_path / f"k{suffix}"
    path.write_text(path.read_text() + " ")
    assert kernel_hash(tmp_path / "k.py") != before


def test_kernel_hash_needs_the_python_file(tmp_path):
    (tmp_path / "k.cpp").write_text("int x;\n")
    with pytest.raises(FileNotFoundError):
        kernel_hash(tmp_path / "k.py")


def test_file_hash_of_more_than_one_chunk(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "big").write_bytes(content)
    assert file_sha256(tmp_path / "big") == hashlib.sha256(content).hexdigest()


def test_json_hash_is_canonical():
    assert json_sha256({"b": [1, 2.5, None], "a": "é"}) == json_sha256({"a": "é", "b": [1, 2.5, None]})
    assert json_sha256({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    with pytest.raises(ValueError):
        json_sha256(float("nan"))
