"""The reader of large JSON: the same events at every size of its chunks, and one line for what is no trace."""

import gzip
import json

import pytest

from autoresearch_lab.errors import LabError
from autoresearch_lab.trace import json_stream
from autoresearch_lab.trace.json_stream import events

EVENTS = [{"name": 'a"b\\', "ts": 1.5e3, "args": {"deep": [1, {"x": -2}]}}, {"name": "é", "ok": True}, {}]


def read(path):
    about = {}
    return list(events(path, about)), about


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_chunks_do_not_change_what_is_read(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": EVENTS, "name": "x, y"}, indent=indent))
    assert read(path) == (EVENTS, {"schemaVersion": 1, "name": "x, y"})
    path.write_text(json.dumps(EVENTS, indent=indent))
    assert read(path) == (EVENTS, {})


@pytest.mark.parametrize("chunk", [3, 50, 1 << 20])
def test_numbers_that_json_has_not(tmp_path, monkeypatch, chunk):
    """As C++ prints them, in events and behind them; a name that looks like one stays."""
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "t.json"
    path.write_text(
        '{"traceEvents": [{"name": "nan", "a": nan, "b": -inf},\n{"c": [inf, -nan(ind)], "d": NaN}], "e": nan}'
    )
    found, about = read(path)
    assert found[0] == {"name": "nan", "a": None, "b": None} and found[1]["c"] == [None, None] and about == {"e": None}


def test_bytes_that_are_no_text_and_control_characters_stay_in_names(tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(b'\xef\xbb\xbf{"traceEvents": [{"name": "k\xff\xfe(int)"}, {"name": "a\tb\nc"}]}')
    assert [event["name"] for event in read(path)[0]] == ["k\ufffd\ufffd(int)", "a\tb\nc"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off_says_so(tmp_path, packed, kept):
    content = json.dumps(
        {"traceEvents": [{"name": f"kernel {number}", "ts": number} for number in range(3000)]}
    ).encode()
    content = gzip.compress(content) if packed else content
    path = tmp_path / ("t.json.gz" if packed else "t.json")
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(LabError, match="is cut off: its end is missing"):
        read(path)


@pytest.mark.parametrize(
    "content",
    ['{"traceEvents": [{"a": what}]} ' + " " * 99, '{"traceEvents" 1}', '{"a": 1} ', '{"traceEvents": {}}', "[3]"],
)
def test_what_is_no_trace_is_one_line(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(LabError, match="is not a trace of PyTorch's profiler"):
        read(path)


def test_one_value_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 10)
    monkeypatch.setattr(json_stream, "MOST", 100)
    (tmp_path / "t.json").write_text('{"traceEvents": ["' + "x" * 1000 + '"]}')
    with pytest.raises(LabError, match="one value has more than"):
        read(tmp_path / "t.json")
