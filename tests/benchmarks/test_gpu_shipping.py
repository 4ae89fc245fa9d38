"""The files that records of a GPU name come out of the archive into the folder that is committed, or are named."""

import hashlib
import shutil
import subprocess
import tarfile

import pytest

from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger
from autoresearch_lab.paths import CHECKOUT, Root
from autoresearch_lab.promote import artifacts
from autoresearch_lab.report.integrity import inspect
from autoresearch_lab.results.record import Artifact
from benchmarks.gpu import evidence

from .examples import call, measured

SAMPLES = "results/kernel_lab/runs/bench-rope-0bf09801/samples.json.gz"
RESULT = {**measured(), "device_key": "cuda-1"}


def ship(root, *folders):
    return evidence.ship(folders, root)[1]


def copies(root):
    return {path.name: path.read_bytes() for path in (root.shipped / "cuda-1").glob("*")}


def kept(path, content):
    return f"{hashlib.sha256(content).hexdigest()[:16]}-{path.rpartition('/')[2]}"


def test_the_raw_samples_come_with_the_records_that_name_them(tmp_path):
    root = Root(tmp_path / "lab")
    first = call(tmp_path / "1", RESULT, [("bench", "cuda-1")], {SAMPLES: b"first"})
    # The next bench of a kernel writes the same path anew.
    second = call(tmp_path / "2", RESULT, [("bench", "cuda-1")], {SAMPLES: b"second"})
    shipped = ship(root, first, second)
    assert shipped.left_out == {} and shipped.added == 2
    assert copies(root) == {kept(SAMPLES, content): content for content in (b"first", b"second")}
    for record in Ledger(shipped.path).records():
        (artifact,) = record.artifacts
        content = artifacts.kept_at(root, "cuda-1", artifact).read_bytes()
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
    assert inspect(root, Ledger(root.ledger)).remarks == []


def test_a_file_that_was_lost_is_brought_in_by_the_next_call(tmp_path):
    root = Root(tmp_path / "lab")
    folder = call(tmp_path / "1", RESULT, [("bench", "cuda-1")], {SAMPLES: b"raw"})
    ship(root, folder)
    shutil.rmtree(root.shipped / "cuda-1")
    told = "of 1 files that shipped records name, 0 are as recorded, 0 changed, 1 missing"
    assert inspect(root, Ledger(root.ledger)).remarks == [told]
    assert ship(root, folder).added == 0 and copies(root) == {kept(SAMPLES, b"raw"): b"raw"}
    (root.shipped / "cuda-1" / kept(SAMPLES, b"raw")).write_bytes(b"other")
    assert "1 changed" in inspect(root, Ledger(root.ledger)).remarks[0]


def test_what_is_missing_changed_or_too_large_is_left_out_and_named(monkeypatch, tmp_path):
    monkeypatch.setattr(artifacts, "MOST_FILE_BYTES", 10)
    root = Root(tmp_path / "lab")
    named = {"a/missing": b"1", "a/changed": b"2", "a/large": b"3" * 11, "a/fine": b"4" * 10}
    there = {"a/changed": b"0", "a/large": named["a/large"], "a/fine": named["a/fine"]}
    shipped = ship(root, call(tmp_path / "1", RESULT, [("bench", "cuda-1")], named, there))
    assert shipped.added == 1 and set(copies(root)) == {kept("a/fine", named["a/fine"])}
    assert set(shipped.left_out) == set(named) - {"a/fine"}
    assert shipped.left_out["a/missing"] == "missing" and shipped.left_out["a/changed"] == "not what was recorded"
    assert "larger than" in shipped.left_out["a/large"]


def test_all_files_together_have_a_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(artifacts, "MOST_BYTES", 5)
    root = Root(tmp_path / "lab")
    shipped = ship(root, call(tmp_path / "1", RESULT, [("bench", "cuda-1")], {"a/x": b"123", "a/y": b"456"}))
    assert set(copies(root).values()) == {b"123"} and "would exceed" in shipped.left_out["a/y"]


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "a/.hidden", "a/b c", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path, path):
    root = Root(tmp_path / "lab")
    shipped = ship(root, call(tmp_path / "1", RESULT, [("bench", "cuda-1")], {path: b"x"}))
    assert path in shipped.left_out and copies(root) == {}
    assert not list(tmp_path.rglob("*outside*"))


def test_a_link_in_the_archive_is_not_followed(tmp_path):
    root = Root(tmp_path / "lab")
    folder = call(tmp_path / "1", RESULT, [("bench", "cuda-1")], {"a/link": b"{}"})
    with tarfile.open(folder / evidence.ARCHIVE, "w:gz") as archive:
        archive.add(folder / "ledger.jsonl", evidence.LEDGER)
        link = tarfile.TarInfo(f"{evidence.FILES}/a/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert ship(root, folder).left_out == {"a/link": "missing"} and copies(root) == {}


def test_a_device_key_that_is_a_path_is_refused(tmp_path):
    folder = call(tmp_path / "1", {**RESULT, "device_key": "../x"}, [("bench", "../x")])
    with pytest.raises(LabError, match="no device's key"):
        ship(Root(tmp_path / "lab"), folder)
    assert not list((tmp_path / "lab").rglob("*.jsonl"))


def test_shipped_files_are_not_ignored_by_git():
    artifact = Artifact(path=SAMPLES, sha256="a" * 64)
    path = artifacts.kept_at(Root(CHECKOUT), "cuda-1", artifact)
    found = subprocess.run(["git", "check-ignore", "-q", str(path)], cwd=CHECKOUT, capture_output=True)
    if found.returncode == 128:
        pytest.skip("not a git checkout")
    assert found.returncode == 1
