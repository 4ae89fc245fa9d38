"""Local folders and files as corpora, and the shuffled, split shards they become."""

import gzip
import hashlib
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoresearch_data import json_lines, local, shards
from autoresearch_data.corpora import find_corpus
from autoresearch_data.errors import DataError
from autoresearch_data.local import local_path
from autoresearch_data.progress import Reporter
from autoresearch_data.shards import Unit, is_validation, read_texts, write_shuffled


def materialised(path, folder):
    found = local_path(path).materialise(folder, Reporter())
    return list(read_texts(found.train)), list(read_texts(found.validation))


def test_records_of_jsonl_and_parquet_become_documents(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    lines = [json.dumps({"text": f"line {number} \U0001f600", "id": number}) for number in range(200)]
    (source / "a.jsonl").write_text("\n".join([*lines, "", json.dumps({"text": ""})]) + "\n")
    pq.write_table(pa.table({"text": [f"row {number}" for number in range(200)] + [None]}), source / "b.parquet")
    (source / ".hidden.jsonl").write_text("not json")
    (source / "image.png").write_bytes(b"\x89PNG")
    train, validation = materialised(source, tmp_path / "out")
    expected = {f"line {number} \U0001f600" for number in range(200)} | {f"row {number}" for number in range(200)}
    assert set(train) | set(validation) == expected and len(train) + len(validation) == 400
    assert 5 <= len(validation) <= 40
    assert train == sorted(train, key=lambda text: hashlib.sha256(text.encode()).digest())


def test_a_single_text_file_is_split_by_document(tmp_path):
    (tmp_path / "book.txt").write_text("\n\n".join(f"Paragraph {number}. " + "word " * 60 for number in range(300)))
    train, validation = materialised(tmp_path / "book.txt", tmp_path / "out")
    assert len(validation) > 3 and len(train) > 200
    assert max(map(len, train)) <= 600


def test_files_that_are_not_utf8_are_skipped(tmp_path):
    for number in range(100):
        (tmp_path / f"{number}.txt").write_text(f"text number {number}")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    corpus = local_path(tmp_path)
    corpus.materialise(tmp_path / "out", Reporter())
    assert [path.name for path in corpus.skipped] == ["latin.txt"]


def test_lone_surrogates_in_json_do_not_stop_anything(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "bad \\ud800 {number}"}}\n' for number in range(200)))
    train, _ = materialised(tmp_path / "a.jsonl", tmp_path / "out")
    assert "bad \ufffd" in train[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"other": 1}\n', r"a\.jsonl:2: not a JSON object with a field 'text'"),
        ("a.jsonl", b'{"text": 5}\n', r"a\.jsonl:1: field 'text' is not a string"),
        ("a.jsonl", b'{"text": \n', r"a\.jsonl:1 is not JSON"),
        ("a.jsonl", b"\xff\xfe", r"a\.jsonl:1 is not UTF-8: byte 0xff at 0"),
        ("a.parquet", b"PAR1 half a file", "no readable parquet file"),
        ("a.txt", b"short", "too small to hold some of it out"),
        ("a.csv", b"a,b", "not one of"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        materialised(tmp_path / name, tmp_path / "out")


def test_parquet_needs_a_text_column(tmp_path):
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column 'text'; it has body"):
        materialised(tmp_path / "a.parquet", tmp_path / "out")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds int64, not text"):
        materialised(tmp_path / "a.parquet", tmp_path / "out")


def test_nothing_to_read_and_unknown_names(tmp_path):
    with pytest.raises(DataError, match="holds no files"):
        find_corpus(str(tmp_path))
    with pytest.raises(DataError, match="unknown corpus 'nonsense'.*stdlib"):
        find_corpus("nonsense")


def unit(text, held_out):
    """A unit whose key puts it on the wanted side."""
    return Unit(bytes(32) if held_out else b"\xff" * 32, [text])


def test_a_repeated_document_is_kept_once_and_held_out_wins(tmp_path):
    units = [unit("shared", False), unit("a", False), unit("shared", True), unit("a", False), unit("b", True)]
    found = write_shuffled(units, tmp_path, 3)
    assert list(read_texts(found.train)) == ["a"]
    assert sorted(read_texts(found.validation)) == ["b", "shared"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"shard_0000{index}.parquet" for index in range(4)]


def test_order_does_not_depend_on_the_number_of_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROW_GROUP_DOCUMENTS", 7)
    units = [unit(f"text {number}", number % 9 == 0) for number in range(500)]
    orders = []
    for count in (1, 5):
        (tmp_path / str(count)).mkdir()
        found = write_shuffled(units, tmp_path / str(count), count)
        orders.append((list(read_texts(found.train)), list(read_texts(found.validation))))
    assert orders[0] == orders[1]


def test_about_one_unit_in_twenty_is_held_out():
    held_out = sum(is_validation(hashlib.sha256(bytes([n % 256, n // 256])).digest()) for n in range(10_000))
    assert 430 < held_out < 570


def test_recipe_names_content_and_no_path(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one")
    recipe = local_path(tmp_path).recipe(Reporter())
    assert str(tmp_path) not in json.dumps(recipe)
    (tmp_path / "a.txt").write_text("two")
    assert local_path(tmp_path).recipe(Reporter()) != recipe
    monkeypatch.setattr(local, "DOCUMENT_CHARACTERS", 5)
    (tmp_path / "a.txt").write_text("one")
    assert local_path(tmp_path).recipe(Reporter()) != recipe


def _texts(path, folder):
    stream = io.StringIO()
    found = local_path(path).materialise(folder, Reporter(stream))
    return sorted([*read_texts(found.train), *read_texts(found.validation)]), stream.getvalue()


PACKED = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": lambda plain: pa.compress(plain, "zstd", True)}


@pytest.mark.parametrize("suffix", PACKED)
def test_packed_json_lines_with_a_byte_order_mark_are_read_and_nulls_are_counted(tmp_path, suffix):
    lines = "".join(f'{{"text": "line {number}", "weight": NaN}}\n' for number in range(200)) + '{"text": null}\n'
    part = PACKED[suffix](b"\xef\xbb\xbf" + lines.encode())
    (tmp_path / f"a{suffix}").write_bytes(part + part)  # in two parts, as large files are written
    texts, said = _texts(tmp_path, tmp_path / "out")
    assert texts == sorted(f"line {number}" for number in range(200))
    assert f"{tmp_path.name}: left out 2 documents whose text is null" in said


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_packed_files_that_are_cut_short_or_another_thing_are_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for content in (PACKED[suffix](b'{"text": "x"}\n' * 1000)[:-6], b"not packed"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path} cannot be read"):
            materialised(path, tmp_path / "out")


def test_a_name_and_its_packing_are_part_of_the_recipe(tmp_path):
    for suffix, packed in PACKED.items():
        (tmp_path / f"a{suffix}").write_bytes(packed(b'{"text": "x"}\n'))
    recipes = [local_path(tmp_path / f"a{suffix}").recipe(Reporter())["sha256"] for suffix in PACKED]
    assert len(set(recipes)) == 3


def test_a_line_that_never_ends_is_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "MOST_BYTES", 1000)
    (tmp_path / "a.jsonl").write_text('{"text": "' + "x" * 5000)
    with pytest.raises(DataError, match=r"a\.jsonl:1: a line of more than 1,000 bytes"):
        materialised(tmp_path / "a.jsonl", tmp_path / "out")


def test_columns_that_are_text_in_another_layout_are_read_and_nulls_are_counted(tmp_path):
    texts: list[str | None] = [f"row {number}" for number in range(200)] + [None, None, None]
    kinds = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
    for kind in kinds:
        pq.write_table(pa.table({"text": pa.array(texts, kind)}), tmp_path / "a.parquet")
        assert pq.read_schema(tmp_path / "a.parquet").field("text").type == kind
        found, said = _texts(tmp_path / "a.parquet", tmp_path / "out")
        assert found == sorted(text for text in texts if text)
        assert "a.parquet: left out 3 documents whose text is null" in said


def test_text_that_is_not_utf8_and_two_columns_of_text_are_named_with_their_file(tmp_path):
    path = tmp_path / "a.parquet"
    bad = pa.array([b"\xff\xfe"] * 300, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": bad}), path)
    with pytest.raises(DataError, match=f"{path} is damaged: .*utf-8"):
        materialised(path, tmp_path / "out")
    pq.write_table(pa.table([["x"], ["y"]], names=["text", "text"]), path)
    with pytest.raises(DataError, match=f"{path} has 2 columns 'text'"):
        materialised(path, tmp_path / "out")
