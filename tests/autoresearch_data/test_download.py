"""The downloader against a server that drops, shortens, refuses, redirects, changes and lies."""

import hashlib
import io
import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autoresearch_data.download import Patience, Remote, answers, download_all, fetch_json
from autoresearch_data.errors import DataFailure
from autoresearch_data.progress import Reporter


def parquet(texts):
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), stream, row_group_size=200)
    return stream.getvalue()


QUICK = Patience(attempts=4, first_pause=0.01, longest_pause=0.05, timeout=2.0)
CONTENT = parquet([f"document {number} " * 20 for number in range(3_000)])
NAME = "/a/shard.parquet"


@pytest.fixture
def fetch(file_server, tmp_path):
    """Download NAME; returns the requests that were made for it."""
    file_server.files[NAME] = CONTENT

    def go(reporter=None, patience=QUICK):
        remote = Remote(file_server.url + NAME, tmp_path / "a" / "shard.parquet")
        download_all([remote], reporter or Reporter(), patience=patience)
        return [asked for path, asked in file_server.requests if path == NAME]

    return go


def arrived(tmp_path):
    folder = tmp_path / "a"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["shard.parquet", "shard.parquet.json"], "only the finished file and its note may remain"
    note = json.loads((folder / "shard.parquet.json").read_text())
    assert note["sha256"] == hashlib.sha256(CONTENT).hexdigest() and note["bytes"] == len(CONTENT)
    return (folder / "shard.parquet").read_bytes() == CONTENT


def test_a_file_arrives_once_and_is_not_asked_for_again(fetch, tmp_path):
    assert fetch() == [None] and arrived(tmp_path)
    assert fetch() == [None]


def flipped(content):
    """One bit changed in the middle: size and footer stay right."""
    changed = bytearray(content)
    changed[1_000] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("harm", "what"), [(flipped, "SHA-256 differs"), (lambda content: content[:5_000], "has 5000 bytes, not the ")]
)
def test_a_file_that_was_damaged_since_is_named_and_fetched_anew(fetch, file_server, tmp_path, harm, what):
    fetch()
    path = tmp_path / "a" / "shard.parquet"
    path.write_bytes(harm(CONTENT))
    shown = io.StringIO()
    with Reporter.on(shown) as reporter:
        assert fetch(reporter) == [None, None] and arrived(tmp_path)
    assert f"{path} " in shown.getvalue() and what in shown.getvalue() and "fetching it anew" in shown.getvalue()


def test_a_damaged_file_that_cannot_be_had_anew_is_named_in_the_error(fetch, file_server, tmp_path):
    fetch()
    path = tmp_path / "a" / "shard.parquet"
    path.write_bytes(flipped(CONTENT))
    file_server.faults[NAME] = [file_server.status(404)]
    with pytest.raises(DataFailure, match=rf"{path} has not the content .*, and cannot download .*HTTP 404"):
        fetch()
    assert path.read_bytes() == flipped(CONTENT), "what there is stays until there is better"


def test_a_file_without_a_note_is_taken_if_it_can_be_opened_and_watched_from_then_on(fetch, tmp_path):
    path = tmp_path / "a" / "shard.parquet"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert fetch() == [] and arrived(tmp_path)
    path.write_bytes(flipped(CONTENT))
    assert fetch() == [None] and arrived(tmp_path)
    (tmp_path / "a" / "shard.parquet.json").unlink()
    path.write_bytes(CONTENT[:5_000])
    assert fetch() == [None, None] and arrived(tmp_path)


@pytest.mark.parametrize("reset", [False, True])
def test_dropped_connections_are_resumed_by_byte_range(fetch, file_server, tmp_path, reset):
    cut_after = file_server.cut_after
    file_server.faults[NAME] = [cut_after(5_000, reset), cut_after(3_000), cut_after(2_000)]
    asked = fetch()
    assert arrived(tmp_path) and asked[0] is None and len(asked) == 4
    offsets = [int(value.removeprefix("bytes=").rstrip("-")) for value in asked[1:]]
    # A reset may swallow bytes that were on their way; what was kept is what is continued from.
    assert offsets == sorted(offsets) and (reset or offsets == [5_000, 8_000, 10_000])


def test_progress_counts_as_success_however_often_the_connection_drops(fetch, file_server, tmp_path):
    file_server.faults[NAME] = [file_server.cut_after(1_000)] * 12  # three times the patience
    assert len(fetch()) == 13 and arrived(tmp_path)


def test_a_later_run_continues_where_an_earlier_one_gave_up(fetch, file_server, tmp_path):
    file_server.faults[NAME] = [file_server.cut_after(6_000)] + [file_server.status(503)] * QUICK.attempts
    with pytest.raises(DataFailure, match="HTTP 503"):
        fetch()
    assert not (tmp_path / "a" / "shard.parquet").exists()
    assert (tmp_path / "a" / "shard.parquet.part").stat().st_size == 6_000
    assert fetch()[-1] == "bytes=6000-" and arrived(tmp_path)


def test_passing_errors_are_retried_and_lasting_ones_are_not(fetch, file_server, tmp_path):
    status = file_server.status
    file_server.faults[NAME] = [status(500), status(429, Retry_After="0"), status(502)]
    assert len(fetch()) == 4 and arrived(tmp_path)


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_lasting_errors_fail_at_once_with_the_address(fetch, file_server, code):
    file_server.faults[NAME] = [file_server.status(code)]
    with pytest.raises(DataFailure, match=rf"{NAME}: HTTP {code}"):
        fetch()
    assert len(file_server.requests) == 1


def test_patience_ends(fetch, file_server, tmp_path):
    file_server.faults[NAME] = [file_server.status(500)] * 100
    with pytest.raises(DataFailure, match="HTTP 500"):
        fetch()
    assert len(file_server.requests) == QUICK.attempts
    assert not (tmp_path / "a" / "shard.parquet").exists()


def test_pauses_double_and_heed_the_server():
    patience = Patience(first_pause=1.0, longest_pause=60.0)
    assert [patience.pause(n) for n in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 60.0]
    assert patience.pause(1, "20") == 20.0 and patience.pause(1, "soon") == 1.0 and patience.pause(1, "999") == 60.0


def test_a_server_without_ranges_sends_it_all_again(fetch, file_server, tmp_path):
    file_server.ignore_ranges = True
    file_server.faults[NAME] = [file_server.cut_after(5_000)]
    assert len(fetch()) == 2 and arrived(tmp_path)


def test_a_file_that_changed_meanwhile_is_not_patched_together(fetch, file_server, tmp_path):
    file_server.files[NAME] = parquet(["an older version"] * 3_000)
    file_server.faults[NAME] = [file_server.cut_after(500)] + [file_server.status(503)] * QUICK.attempts
    with pytest.raises(DataFailure):
        fetch()
    file_server.files[NAME] = CONTENT
    fetch()
    assert arrived(tmp_path)


def test_a_part_that_is_already_the_whole_file_is_recognised(fetch, file_server, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "shard.parquet.part").write_bytes(CONTENT)
    (folder / "shard.parquet.part.json").write_text(json.dumps({"etag": file_server.etag(CONTENT)}))
    assert fetch() == [f"bytes={len(CONTENT)}-"] and arrived(tmp_path)


def test_a_part_longer_than_the_file_is_thrown_away(fetch, file_server, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "shard.parquet.part").write_bytes(CONTENT + b"more")
    (folder / "shard.parquet.part.json").write_text(json.dumps({"etag": file_server.etag(CONTENT)}))
    assert len(fetch()) == 2 and arrived(tmp_path)


def short_but_honest(handler, content, start):
    """A truncated copy that says it is complete: only the parquet footer gives it away."""
    handler.send_response(200)
    handler.send_header("Content-Length", "4000")
    handler.end_headers()
    handler.wfile.write(content[:4_000])


def error_page(handler, content, start):
    page = b"<html>please log in</html>"
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(page)))
    handler.end_headers()
    handler.wfile.write(page)


@pytest.mark.parametrize("fault", [short_but_honest, error_page])
def test_what_is_no_whole_parquet_file_is_not_kept(fetch, file_server, tmp_path, fault):
    file_server.faults[NAME] = [fault]
    assert fetch() == [None, None] and arrived(tmp_path)
    (tmp_path / "a" / "shard.parquet").unlink()
    file_server.faults[NAME] = [fault] * QUICK.attempts
    with pytest.raises(DataFailure, match="no complete parquet file"):
        fetch()
    assert not [path for path in (tmp_path / "a").iterdir() if path.suffix == ".parquet"]


def redirect(url, content):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", f"{url}/storage")
        handler.send_header("X-Linked-Size", str(len(content)))
        handler.send_header("X-Linked-ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_redirects_are_followed_and_the_hash_they_state_is_checked(fetch, file_server, tmp_path):
    file_server.files[NAME] = redirect(file_server.url, CONTENT)
    damaged = bytearray(CONTENT)
    damaged[1_000] ^= 1  # size and footer stay right
    file_server.files["/storage"] = bytes(damaged)
    with pytest.raises(DataFailure, match="does not have the hash"):
        fetch()
    file_server.files["/storage"] = CONTENT
    file_server.faults["/storage"] = [file_server.cut_after(7_000)]
    fetch()
    assert arrived(tmp_path) and ("/storage", "bytes=7000-") in file_server.requests


def test_a_silent_server_times_out(fetch, file_server):
    file_server.faults[NAME] = [lambda handler, content, start: time.sleep(0.5)] * 2
    with pytest.raises(DataFailure, match="timed out"):
        fetch(patience=Patience(attempts=2, first_pause=0.01, timeout=0.2))


def test_many_files_in_parallel_and_one_failure_stops_the_rest(file_server, tmp_path):
    remotes = []
    for number in range(12):
        file_server.files[f"/{number}.parquet"] = CONTENT
        remotes.append(Remote(f"{file_server.url}/{number}.parquet", tmp_path / f"{number}.parquet"))
    download_all(remotes, Reporter(), parallel=4, patience=QUICK)
    assert all(remote.path.read_bytes() == CONTENT for remote in remotes)
    remotes.append(Remote(f"{file_server.url}/missing.parquet", tmp_path / "missing.parquet"))
    with pytest.raises(DataFailure, match="missing.parquet: HTTP 404"):
        download_all(remotes, Reporter(), patience=QUICK)


def test_nobody_at_home(tmp_path):
    with pytest.raises(DataFailure, match="refused"):
        download_all([Remote("http://127.0.0.1:9/x.parquet", tmp_path / "x.parquet")], Reporter(), patience=QUICK)
    assert not answers("http://127.0.0.1:9")


def test_progress_ends_at_the_size_of_the_file(fetch, file_server):
    file_server.faults[NAME] = [file_server.cut_after(5_000)]
    shown = io.StringIO()
    with Reporter.on(shown) as reporter:
        fetch(reporter)
    assert "downloading 1 files: " in shown.getvalue() and f"{len(CONTENT) / 1e3:.1f} kB in" in shown.getvalue()


def test_json_follows_no_page_by_itself_and_retries(file_server):
    file_server.files["/api"] = b'[{"path": "x"}]'
    file_server.faults["/api"] = [file_server.status(503)]
    assert fetch_json(f"{file_server.url}/api", QUICK) == ([{"path": "x"}], None)
    file_server.files["/bad"] = b"<html>"
    with pytest.raises(DataFailure, match="cannot read"):
        fetch_json(f"{file_server.url}/bad", QUICK)
    with pytest.raises(DataFailure, match="HTTP 404"):
        fetch_json(f"{file_server.url}/none", QUICK)
    assert answers(file_server.url)
