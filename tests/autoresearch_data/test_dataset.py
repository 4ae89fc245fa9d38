"""Preparing a dataset and opening it: determinism, reuse, damage, interruption."""

import json
import shutil

import numpy as np
import pytest
from filelock import FileLock

from autoresearch_common.hashing import file_sha256
from autoresearch_data import build
from autoresearch_data.build import prepare
from autoresearch_data.corpora import find_corpus
from autoresearch_data.dataset import open_dataset
from autoresearch_data.errors import CorruptDataset, DataError, NoDataset
from autoresearch_data.folders import data_dir, dataset_folder
from autoresearch_data.local import standard_library
from autoresearch_data.shards import read_texts


def write_sources(folder, count=60):
    folder.mkdir()
    for number in range(count):
        (folder / f"module_{number}.py").write_text(f"import os\n\n\ndef f{number}(x):\n    return x + {number}\n")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return prepare(find_corpus(str(write_sources(root / "sources"))), root / "small").dataset.folder


@pytest.fixture
def copy(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "small")
    return tmp_path / "small"


def contents(folder):
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_opened_dataset_is_what_the_corpus_says(prepared):
    dataset = open_dataset(prepared)
    assert dataset.name == "small" and len(dataset.fingerprint) == 64
    texts = []
    for split in ("train", "val"):
        tokens = dataset.split(split)
        assert tokens.ids.dtype == np.uint16 and tokens.offsets.dtype == np.int64
        assert not tokens.ids.flags.writeable
        assert dataset.manifest.splits[split].tokens == tokens.ids.size
        texts += [dataset.tokenizer.decode(tokens.document(index)) for index in range(len(tokens))]
    assert sorted(texts) == sorted(path.read_text() for path in prepared.parent.joinpath("sources").iterdir())
    shards = sorted((prepared / "corpus").iterdir())
    assert len(list(read_texts(shards[-1:]))) == len(dataset.split("val"))
    with pytest.raises(KeyError, match="known: train, val"):
        dataset.split("test")


def test_the_same_content_elsewhere_gives_the_same_fingerprint(prepared, tmp_path):
    write_sources(tmp_path / "other place")
    again = prepare(find_corpus(str(tmp_path / "other place")), tmp_path / "another").dataset
    assert again.fingerprint == open_dataset(prepared).fingerprint
    assert contents(again.folder / "tokens") == contents(prepared / "tokens")
    assert str(tmp_path) not in (again.folder / "dataset.json").read_text()


def test_a_slice_of_the_standard_library_is_reproducible(tmp_path):
    results = []
    for name in ("one", "two"):
        corpus = standard_library()
        corpus.files = [path for path in corpus.files if path.parent.name in ("json", "email", "asyncio", "http")]
        corpus.files.sort(reverse=name == "two")  # the order in which files are found does not matter
        results.append(prepare(corpus, tmp_path / name).dataset)
    assert results[0].fingerprint == results[1].fingerprint
    assert results[0].tokenizer.vocab_size == 8192
    manifest = results[0].manifest
    assert manifest.splits["train"].tokens > 100_000 and manifest.splits["val"].documents > 0


def test_standard_library_leaves_out_what_an_installation_writes():
    names = [path.name for path in standard_library().files]
    assert "argparse.py" in names
    assert not [name for name in names if name.startswith("_sysconfigdata") or name == "sitecustomize.py"]


def test_second_run_does_nothing_and_force_prepares_again(copy, tmp_path):
    write_sources(tmp_path / "sources")
    corpus = find_corpus(str(tmp_path / "sources"))
    stamps = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert prepare(corpus, copy).reused
    assert stamps == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert not prepare(corpus, copy, force=True).reused


def test_a_changed_corpus_or_a_damaged_file_is_prepared_again(copy, tmp_path):
    sources = write_sources(tmp_path / "sources")
    before = open_dataset(copy).fingerprint
    (copy / "tokens" / "train.bin").write_bytes(b"")
    done = prepare(find_corpus(str(sources)), copy)
    assert not done.reused and done.dataset.fingerprint == before
    (sources / "module_0.py").write_text("print('changed')\n")
    assert prepare(find_corpus(str(sources)), copy).dataset.fingerprint != before


def test_missing_dataset_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_DATA", str(tmp_path))
    with pytest.raises(NoDataset, match=r"prepare it with: python prepare.py --corpus stdlib$"):
        open_dataset(dataset_folder())
    with pytest.raises(NoDataset, match=r"prepare.py --corpus climbmix$"):
        open_dataset(dataset_folder("climbmix"))
    with pytest.raises(NoDataset, match="--corpus stdlib --dataset mine --data-dir "):
        open_dataset(tmp_path / "deeper" / "mine")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_a_number(path):
    value = json.loads(path.read_text())
    value["splits"]["train"]["documents"] += 1
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("tokens/train.bin", flip_a_bit),
        ("tokens/val.offsets.npy", lambda path: path.write_bytes(path.read_bytes()[:-8])),
        ("tokens/val.bin", lambda path: path.unlink()),
        ("tokenizer/tokens.tiktoken", flip_a_bit),
        ("dataset.json", lambda path: path.write_text(path.read_text()[:100])),
        ("dataset.json", lambda path: path.write_text("[]")),
        ("dataset.json", change_a_number),
    ],
)
def test_damage_is_one_clear_line(copy, name, damage):
    damage(copy / name)
    with pytest.raises(CorruptDataset) as caught:
        open_dataset(copy)
    assert name in str(caught.value) and "--force" in str(caught.value) and "\n" not in str(caught.value)


def test_the_shards_are_not_needed_once_there_are_tokens(copy, prepared):
    shutil.rmtree(copy / "corpus")
    assert open_dataset(copy).fingerprint == open_dataset(prepared).fingerprint


@pytest.mark.parametrize(("error", "told"), [(KeyboardInterrupt, KeyboardInterrupt), (OSError, DataError)])
def test_an_interrupted_run_changes_nothing(copy, tmp_path, monkeypatch, error, told):
    write_sources(tmp_path / "sources", 50)
    before = contents(copy)

    def interrupted(*arguments, **named):
        raise error

    monkeypatch.setattr(build, "write_tokens", interrupted)
    for target in (copy, tmp_path / "new"):
        with pytest.raises(told):
            prepare(find_corpus(str(tmp_path / "sources")), target, force=True)
    assert contents(copy) == before and not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*partial*"))


def test_remains_of_a_killed_run_are_removed(copy, tmp_path):
    write_sources(tmp_path / "sources")
    (tmp_path / ".small.partial-1" / "tokens").mkdir(parents=True)
    prepare(find_corpus(str(tmp_path / "sources")), copy, force=True)
    assert not list(tmp_path.glob(".*partial*"))


def test_a_folder_that_is_no_dataset_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    write_sources(tmp_path / "sources")
    with pytest.raises(DataError, match="is no dataset"):
        prepare(find_corpus(str(tmp_path / "sources")), tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_another_corpus_under_the_same_name_is_refused(copy, tmp_path):
    write_sources(tmp_path / "different")
    with pytest.raises(DataError, match="holds corpus 'sources'"):
        prepare(find_corpus(str(tmp_path / "different")), copy)


def test_two_runs_at_once_are_refused(tmp_path):
    write_sources(tmp_path / "sources")
    with FileLock(tmp_path / ".small.lock"):
        with pytest.raises(DataError, match="another run"):
            prepare(find_corpus(str(tmp_path / "sources")), tmp_path / "small")


def test_data_dir_order(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTORESEARCH_DATA", "/elsewhere")
    assert str(data_dir()) == "/elsewhere" and data_dir(tmp_path) == tmp_path
    monkeypatch.delenv("AUTORESEARCH_DATA")
    assert dataset_folder("stdlib").parts[-2:] == ("data", "stdlib")
    with pytest.raises(DataError, match="bad dataset name"):
        dataset_folder("../up")


def test_a_dataset_like_another_has_its_measure_and_trains_on_nothing_held_out(copy, tmp_path):
    sources = write_sources(tmp_path / "sources", count=70)
    done = prepare(find_corpus(str(sources)), tmp_path / "more", like=copy)
    first, second = open_dataset(copy), done.dataset
    assert second.tokenizer.sha256 == first.tokenizer.sha256 and second.fingerprint != first.fingerprint
    assert second.manifest.splits["val"] == first.manifest.splits["val"]
    assert contents(copy / "tokens")["val.bin"] == contents(second.folder / "tokens")["val.bin"]
    texts = {name: set(build._documents(second, name)) for name in ("train", "val")}
    assert not texts["train"] & texts["val"] and len(texts["train"]) + len(texts["val"]) == 70
    assert prepare(find_corpus(str(sources)), tmp_path / "more", like=copy).reused
    assert not prepare(find_corpus(str(sources)), tmp_path / "more").reused
    with pytest.raises(DataError, match="cannot be prepared like itself"):
        prepare(find_corpus(str(sources)), copy, like=copy)
