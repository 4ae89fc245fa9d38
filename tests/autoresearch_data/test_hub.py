"""Corpora from the hub, prepared whole from a local server that has the hub's addresses."""

import json

import pytest

from autoresearch_data.build import prepare
from autoresearch_data.cli import main
from autoresearch_data.corpora import REGISTRY, Choice, default_corpus, find_corpus
from autoresearch_data.errors import DataError, DataFailure
from autoresearch_data.hub import HubCorpus, hub_address
from autoresearch_data.shards import read_texts
from autoresearch_data.sources import SOURCES


def texts(tag, count=300):
    return [f"{tag} document {number}: some words about {number * 7}." for number in range(count)]


def publish(server, repository, name, content):
    server.files[f"/datasets/{repository}/resolve/main/{name}"] = content


def splits(prepared):
    dataset = prepared.dataset
    return tuple(
        [dataset.tokenizer.decode(tokens.document(index)) for index in range(len(tokens))]
        for tokens in (dataset.split("train"), dataset.split("val"))
    )


def test_climbmix_holds_out_the_pinned_shard(file_server, tmp_path, capsys):
    repository = "karpathy/climbmix-400b-shuffle"
    for index in (0, 1, 6542):
        publish(file_server, repository, f"shard_{index:05d}.parquet", file_server.parquet(texts(f"s{index}")))
    first = f"/datasets/{repository}/resolve/main/shard_00000.parquet"
    file_server.faults[first] = [file_server.cut_after(1_000)]
    places = ["--hub", file_server.url, "--data-dir", str(tmp_path)]
    arguments = ["--corpus", "climbmix", "--shards", "2", "--json", *places]
    assert main(arguments) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["splits"]["train"]["documents"] == 600 and summary["splits"]["val"]["documents"] == 300
    asked = len(file_server.requests)
    assert main(arguments) == 0 and json.loads(capsys.readouterr().out)["reused"]
    assert len(file_server.requests) == asked, "a second run needs no network"
    corpus = find_corpus("climbmix", Choice(tmp_path / ".downloads", 2, file_server.url))
    prepared = prepare(corpus, tmp_path / "climbmix")
    assert splits(prepared) == (texts("s0") + texts("s1"), texts("s6542"))
    # A download that was damaged since is had anew, also where nothing but --force says that it is wanted.
    shard = next((tmp_path / ".downloads").rglob("shard_00001.parquet"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    assert main([*arguments, "--force"]) == 0
    assert f"{shard} has {len(whole) - 100} bytes" in capsys.readouterr().err and shard.read_bytes() == whole
    asked += 1
    # Another dataset from the same downloads fetches only what is new.
    publish(file_server, repository, "shard_00002.parquet", file_server.parquet(texts("s2")))
    arguments[arguments.index("2")] = "3"
    assert main([*arguments, "--dataset", "bigger"]) == 0
    assert len(file_server.requests) == asked + 1


def test_high_scores_only_and_a_validation_split_by_hash(file_server, tmp_path):
    scores = [3, 4, 5] * 100
    for index in (0, 1):
        content = file_server.parquet(texts(f"f{index}"), int_score=scores)
        publish(file_server, "HuggingFaceFW/fineweb-edu", f"sample/10BT/{index:03d}_00000.parquet", content)
    corpus = find_corpus("fineweb-edu-high", Choice(tmp_path / ".downloads", None, file_server.url))
    train, validation = splits(prepare(corpus, tmp_path / "high"))
    wanted = {text for index in (0, 1) for text, score in zip(texts(f"f{index}"), scores, strict=True) if score >= 4}
    assert set(train) | set(validation) == wanted and not set(train) & set(validation)
    assert 5 < len(validation) < 45
    everything = find_corpus("fineweb-edu", Choice(tmp_path / ".downloads", 1, file_server.url))
    asked = len(file_server.requests)
    train, validation = splits(prepare(everything, tmp_path / "all"))
    assert set(train) | set(validation) == set(texts("f0"))
    assert len(file_server.requests) == asked, "both corpora are made of the same files"


def paged_listing(server, repository, pages):
    """The listing of a repository in pages that link to each other by the hub's own addresses."""
    path = f"/api/datasets/{repository}/tree/main"

    def answer(handler):
        page = int(handler.path.partition("cursor=")[2] or 0)
        content = json.dumps([{"type": "file", "path": name} for name in pages[page]]).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        if page + 1 < len(pages):
            link = f"https://huggingface.co{path}?recursive=true&cursor={page + 1}"
            handler.send_header("Link", f'<{link}>; rel="next"')
        handler.end_headers()
        handler.wfile.write(content)

    server.files[path] = answer


def test_names_that_contain_hashes_come_from_the_listing(file_server, tmp_path):
    repository = "roneneldan/TinyStories"
    names = ["data/train-00000-of-00002-2d5a.parquet", "data/train-00001-of-00002-5852.parquet"]
    held_out = "data/validation-00000-of-00001-869c.parquet"
    paged_listing(file_server, repository, [["README.md", names[1], "all_data.tar.gz"], [names[0], held_out]])
    for name in (*names, held_out):
        publish(file_server, repository, name, file_server.parquet(texts(name)))
    corpus = find_corpus("tinystories", Choice(tmp_path / ".downloads", 2, file_server.url))
    assert splits(prepare(corpus, tmp_path / "stories")) == (texts(names[0]) + texts(names[1]), texts(held_out))
    too_many = find_corpus("tinystories", Choice(tmp_path / ".downloads", 3, file_server.url))
    with pytest.raises(DataError, match="training shards 1 to 2, not 3"):
        prepare(too_many, tmp_path / "other")


def test_a_repository_that_lost_its_files_is_a_failure(file_server, tmp_path):
    paged_listing(file_server, "DKYoon/SlimPajama-6B", [["README.md"]])
    corpus = find_corpus("slimpajama", Choice(tmp_path / ".downloads", None, file_server.url))
    with pytest.raises(DataFailure, match="no longer has the files"):
        prepare(corpus, tmp_path / "slim")
    assert not (tmp_path / "slim").exists()


def test_a_hub_that_is_away_is_exit_code_1(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("autoresearch_data.download.Patience.pause", lambda *arguments: 0.01)
    code = main(["--corpus", "climbmix", "--hub", "http://127.0.0.1:9", "--data-dir", str(tmp_path)])
    captured = capsys.readouterr()
    assert code == 1 and captured.err.splitlines()[-1].startswith("error: cannot download http://127.0.0.1:9/datasets/")


def test_every_source_is_registered_and_consistent():
    names = ["climbmix", "fineweb-edu", "fineweb-edu-high", "cosmopedia-v2", "slimpajama", "python-edu", "tinystories"]
    assert [source.name for source in SOURCES] == names and set(names) < set(REGISTRY)
    for source in SOURCES:
        assert bool(source.train) != bool(source.train_prefix)
        assert not set(source.train) & set(source.validation)
    climbmix = SOURCES[0]
    assert climbmix.train[0] == "shard_00000.parquet" and climbmix.train[-1] == "shard_06541.parquet"
    assert climbmix.validation == ("shard_06542.parquet",) and climbmix.default_shards == 10


def test_hub_address_and_default_corpus(file_server, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert hub_address() == "https://mirror.example" and hub_address("http://other") == "http://other"
    monkeypatch.delenv("HF_ENDPOINT")
    assert hub_address() == "https://huggingface.co"
    with pytest.raises(DataError, match="bad hub address"):
        HubCorpus(SOURCES[0], tmp_path, hub="file:///etc")
    assert default_corpus(file_server.url) == "climbmix" and default_corpus("http://127.0.0.1:9") == "stdlib"


def test_rows_without_a_score_are_left_out(file_server, tmp_path):
    (tmp_path / "a.parquet").write_bytes(file_server.parquet(["a", "b", "c"], int_score=[4, None, 2]))
    assert list(read_texts([tmp_path / "a.parquet"], minimum=("int_score", 4))) == ["a"]
    with pytest.raises(DataError, match="no column 'other'"):
        list(read_texts([tmp_path / "a.parquet"], minimum=("other", 4)))
