"""The ledger keeps what was written, in order, through torn lines, tampering and concurrent writers."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from autoresearch_lab.errors import LabError
from autoresearch_lab.ledger import Ledger, LedgerCorrupt
from autoresearch_lab.results import lines
from autoresearch_lab.results.record import Record

DESIGN_KEYS = set(
    "schema id prev time kind engine device software commit target kernel workloads seeds settings results "
    "verdict artifacts".split()
)

SETTINGS = {"event": "failed", "step": "bench"}


def note(ledger: Ledger, **more: Any) -> Record:
    return ledger.append("note", settings=SETTINGS, results={"reason": "none"}, **more)


def verified(ledger: Ledger, **more: Any) -> Record:
    fields = {"target": "rope", "kernel": {"name": "k", "sha256": "a" * 64}, "verdict": "PASS"}
    return ledger.append("verify", **{**fields, **more})


@pytest.fixture(params=["in memory", "kept"])
def ledger(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """With either kind of index."""
    if request.param == "kept":
        monkeypatch.setattr("autoresearch_lab.ledger_index.LEAST_KEPT_BYTES", 1)
    return Ledger(tmp_path / "results" / "ledger.jsonl")


def test_record_has_the_keys_of_the_design_and_survives_a_round_trip(ledger: Ledger) -> None:
    written = ledger.append("note", settings=SETTINGS, results={"reason": "x"}, seeds={"numbers": (1, 2.5)})
    line = json.loads(ledger.path.read_text())
    assert set(line) == DESIGN_KEYS
    assert line["target"] is None
    [read] = Ledger(ledger.path).records()
    assert read == written
    assert read.seeds == {"numbers": [1, 2.5]} and read.results.reason == "x"


def test_records_are_chained(ledger: Ledger) -> None:
    first, second = note(ledger), note(ledger, target="rms_norm")
    assert first.prev is None
    assert second.prev == first.id
    assert ledger.problems() == []


def test_a_record_that_was_changed_or_follows_a_gap_is_not_found(ledger: Ledger) -> None:
    for target in ("one", "two", "three", "four"):
        verified(ledger, target=target)
    first, _, *rest = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(first.replace("PASS", "FAIL") + "".join(rest))
    assert [record.target for record in ledger.records()] == ["one", "three", "four"]
    assert [record.target for record in ledger.find()] == ["four"]
    excerpt = Ledger(ledger.path, excerpt=True)  # has gaps, and no chain of its own
    assert [record.target for record in excerpt.find()] == ["three", "four"]


def test_a_changed_record_is_noticed(ledger: Ledger) -> None:
    verified(ledger, verdict="FAIL")
    note(ledger)
    ledger.path.write_text(ledger.path.read_text().replace('"FAIL"', '"PASS"'))
    assert ledger.problems() == ["record 1 (verify) was changed after it was written"]


def test_a_verdict_of_another_kind_is_a_changed_record_too(ledger: Ledger) -> None:
    verified(ledger)
    note(ledger)
    ledger.path.write_text(ledger.path.read_text().replace('"PASS"', '"PROMOTE"').replace('"schema":2', '"schema":9'))
    assert [(record.kind, record.fault) for record in ledger.records()] == [
        (kind, "was changed after it was written") for kind in ("verify", "note")
    ]
    assert ledger.find() == [] and len(ledger.problems()) == 2 and note(ledger).prev is not None


def test_a_record_taken_out_is_noticed(ledger: Ledger) -> None:
    for _ in range(3):
        note(ledger)
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(lines[0] + lines[2])
    assert ledger.problems() == ["record 2 (note) does not follow the record before it"]


def test_a_torn_last_line_is_set_aside(ledger: Ledger) -> None:
    first = note(ledger)
    with open(ledger.path, "ab") as file:
        file.write(b'{"schema": 1, "kind": "ver')
    assert ledger.records() == [first]
    second = note(ledger)
    assert ledger.records() == [first, second]
    assert ledger.problems() == []
    assert ledger.path.with_name("ledger.jsonl.torn").read_bytes() == b'{"schema": 1, "kind": "ver\n'


def test_a_whole_last_line_without_its_end_is_a_record(ledger: Ledger) -> None:
    written = [note(ledger), note(ledger)]
    ledger.path.write_bytes(ledger.path.read_bytes()[:-1])
    assert Ledger(ledger.path).records() == written
    written.append(note(ledger))
    assert ledger.records() == Ledger(ledger.path).records() == written and ledger.problems() == []
    assert not ledger.path.with_name("ledger.jsonl.torn").exists()


def test_blank_lines_are_no_records(ledger: Ledger) -> None:
    written = [note(ledger), note(ledger)]
    ledger.path.write_text("\n" + ledger.path.read_text().replace("\n", "\n \n"))
    assert ledger.records() == written
    assert [*written, note(ledger)] == ledger.records() and ledger.problems() == []


@pytest.mark.parametrize("again", [False, True])
def test_records_that_are_gone_from_the_end_are_missed(ledger: Ledger, again: bool) -> None:
    written = [note(ledger) for _ in range(4)]
    ledger.path.write_text("".join(ledger.path.read_text().splitlines(keepends=True)[:1]))
    reader = Ledger(ledger.path) if again else ledger
    assert reader.records() == written[:1]
    assert reader.problems() == ["the newest 3 of 4 records are gone (ledger.jsonl.head counted them)"]
    note(reader)  # the next append does not hide it
    assert reader.problems() == ["the newest 3 of 4 records are gone (ledger.jsonl.head counted them)"]


def test_an_older_copy_that_went_on_is_noticed(ledger: Ledger) -> None:
    note(ledger)
    copied = ledger.path.read_text()
    note(ledger)
    ledger.path.write_text(copied)
    other = ledger.path.with_name("other.jsonl")
    other.write_text(copied)
    note(Ledger(other), target="elsewhere")
    ledger.path.write_text(other.read_text())
    assert ledger.problems() == ["record 2 is another than was written here (ledger.jsonl.head names it)"]


def test_two_ledgers_put_together_are_noticed(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "other.jsonl")
    for each in (ledger, other):
        note(each)
    ledger.path.write_text(ledger.path.read_text() + other.path.read_text())
    assert ledger.problems() == ["record 2 (note) does not follow the record before it"]


def test_a_writer_by_a_link_takes_the_same_lock_and_chain(ledger: Ledger, tmp_path: Path) -> None:
    note(ledger)
    link = tmp_path / "link.jsonl"
    link.symlink_to(ledger.path)
    again = tmp_path / "again.jsonl"
    again.symlink_to(link)
    note(Ledger(again))
    assert Ledger(again)._lock == ledger._lock and len(ledger.records()) == 2 and ledger.problems() == []


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("missing"))


def _loop(path: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_dangling, _loop, _device, _pipe])
def test_what_is_no_file_is_no_empty_ledger(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for use in (ledger.records, ledger.problems, lambda: note(ledger)):
        with pytest.raises(LabError, match="ledger: .*(leads nowhere|no regular file)"):
            use()


def test_what_is_appended_by_others_is_found(ledger: Ledger) -> None:
    reader = Ledger(ledger.path)
    for number in range(3):
        written = verified(ledger, target=f"t{number}")
        assert reader.latest(kind="verify") == written == reader.get(written.id[:8])
        assert reader.count() == number + 1 and reader.newest_id() == written.id


def test_the_newest_come_first_and_only_what_is_asked_for_is_read(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(250):
        ledger.append("note", settings=SETTINGS, results={"reason": str(number)})
    read = []
    monkeypatch.setattr("autoresearch_lab.ledger.read", lambda line: read.append(line) or lines.read(line))
    newest = ledger.newest(kind="note")
    assert [next(newest).results.reason for _ in range(2)] == ["249", "248"] and len(read) == 2
    note(ledger)  # meanwhile
    assert [record.results.reason for record in newest] == [str(number) for number in range(247, -1, -1)]


def test_an_index_that_is_damaged_or_foreign_is_made_again(ledger: Ledger) -> None:
    written = [note(ledger) for _ in range(3)]
    index = ledger.path.with_name("ledger.jsonl.index")
    for content in (b"", b"no database", b"SQLite format 3\0" + bytes(200)):
        index.write_bytes(content)
        reader = Ledger(ledger.path)
        assert reader.records() == written and reader.problems() == []


def test_where_the_index_cannot_be_a_file_it_is_none(ledger: Ledger) -> None:
    written = [note(ledger) for _ in range(3)]
    index = ledger.path.with_name("ledger.jsonl.index")
    index.unlink(missing_ok=True)
    index.mkdir()
    reader = Ledger(ledger.path)
    assert reader.records() == reader.records() == written
    assert [*written, note(reader)] == reader.records() and reader.problems() == []


def test_a_line_changed_in_place_is_found_out_when_it_is_read(ledger: Ledger) -> None:
    verified(ledger, target="aaaa")
    verified(ledger, target="bbbb")
    status = ledger.path.stat()
    ledger.path.write_text(ledger.path.read_text().replace('"aaaa"', '"cccc"'))
    os.utime(ledger.path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the index believes to be up to date
    assert ledger.latest(target="aaaa") is None and ledger.latest(target="cccc") is None
    ledger.read_again()
    assert ledger.problems() == ["record 1 (verify) was changed after it was written"]


def test_a_corrupt_line_in_the_middle_is_refused_and_nothing_is_lost(ledger: Ledger) -> None:
    note(ledger)
    with open(ledger.path, "ab") as file:
        file.write(b"not json\n")
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerCorrupt, match="line 2"):
        ledger.records()
    with pytest.raises(LedgerCorrupt, match="line 2"):
        note(ledger)
    assert ledger.path.read_bytes() == before


def test_verdict_must_fit_the_kind(ledger: Ledger) -> None:
    with pytest.raises(ValidationError, match="'FASTER', 'SLOWER', 'SAME' or 'AMBIGUOUS'"):
        ledger.append("bench", verdict="PASS", target="rope", kernel={"name": "k", "sha256": "a" * 64})
    with pytest.raises(ValidationError, match="(?s)verdict.*should be None"):
        note(ledger, verdict="PASS")
    assert ledger.records() == []


def test_not_a_number_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="finite number"):
        verified(ledger, results={"error_ratio": float("nan")})
    assert ledger.records() == []


def test_find_looks_inside_device_software_and_kernel(ledger: Ledger) -> None:
    wanted = {"device": {"key": "d1"}, "software": {"key": "s1"}, "kernel": {"name": "k", "sha256": "a" * 64}}
    hit = verified(ledger, **wanted)
    verified(ledger, **{**wanted, "device": {"key": "d2"}})
    found = ledger.find(kind="verify", device_key="d1", software_key="s1", kernel_sha256="a" * 64)
    assert found == [hit]
    assert ledger.latest(device_key="d3") is None
    assert ledger.get(hit.id[:10]) == hit


def test_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write"):
        note(Ledger(tmp_path / "file" / "ledger.jsonl"))


def _append_many(path: Path) -> None:
    for _ in range(5):
        note(Ledger(path))


def test_concurrent_writers_keep_one_chain(ledger: Ledger) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(ledger.path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(ledger.records()) == 15
    assert ledger.problems() == []


def test_a_folder_in_the_ledgers_place_is_named(ledger: Ledger) -> None:
    ledger.path.mkdir(parents=True)
    for use in (ledger.records, ledger.check):
        with pytest.raises(LabError, match=f"cannot read {ledger.path}: Is a directory"):
            use()
    with pytest.raises(LabError, match=str(ledger.path)):
        note(ledger)


def test_a_ledger_that_may_not_be_read_or_written_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    note(ledger)

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(LabError, match=f"cannot read {ledger.path}: Permission denied"):
            Ledger(ledger.path).records()
    monkeypatch.setattr("builtins.open", refuse)
    for use in (ledger.check, lambda: note(ledger)):
        with pytest.raises(LabError, match=f"cannot append to {ledger.path}: Permission denied"):
            use()


def test_a_lock_that_cannot_be_taken_is_named(ledger: Ledger) -> None:
    lock = ledger.path.with_name(ledger.path.name + ".lock")
    lock.mkdir(parents=True)
    for use in (ledger.check, lambda: note(ledger)):
        with pytest.raises(LabError, match=f"cannot append to {ledger.path}.*{lock.name}"):
            use()


def test_checking_finds_what_would_stop_an_append_and_leaves_nothing(ledger: Ledger) -> None:
    ledger.check()
    assert not ledger.path.parent.exists()
    note(ledger)
    before = {path: path.read_bytes() for path in ledger.path.parent.iterdir()}
    ledger.check()
    assert {path: path.read_bytes() for path in ledger.path.parent.iterdir()} == before
    ledger.path.write_text("damaged\n" + ledger.path.read_text())
    with pytest.raises(LedgerCorrupt):
        ledger.check()


def test_checking_notices_a_file_in_the_folders_place(ledger: Ledger) -> None:
    ledger.path.parent.touch()
    with pytest.raises(LabError, match=f"cannot write to {ledger.path.parent}"):
        ledger.check()


def test_a_ledger_that_is_deleted_meanwhile_is_not_begun_anew(ledger: Ledger):
    note(ledger)
    ledger.path.unlink()
    with pytest.raises(LabError, match=f"ledger: {ledger.path} was deleted while the lab worked"):
        note(ledger)
    assert not ledger.path.exists()
    note(Ledger(ledger.path))  # whoever comes new begins one
